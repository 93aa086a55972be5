// A pusher-js client as a process: subscribes to the channels of its arguments and prints what it
// is told, a JSON value a line, until its standard input ends. For tests in other languages. With
// `@USER` in the place of a channel it signs in as that user.
//
//   node listen.js PORT KEY AUTH_ENDPOINT CHANNEL...

import Pusher from "pusher-js";

const [port, key, endpoint, ...names] = process.argv.slice(2);
const say = (...words) => console.log(JSON.stringify(words));

const client = new Pusher(key, {
  cluster: "",
  wsHost: "127.0.0.1",
  wsPort: Number(port),
  forceTLS: false,
  enabledTransports: ["ws"],
  channelAuthorization: { endpoint, transport: "ajax" },
  userAuthentication: {
    endpoint,
    transport: "ajax",
    paramsProvider: () => ({ user: names.find((name) => name.startsWith("@")).slice(1) }),
  },
});
client.connection.bind("connected", ({ socket_id }) => say("connected", socket_id));

client.connection.bind("error", ({ data }) => say("error", data?.code));

for (const name of names) {
  if (name.startsWith("@")) {
    client.user.bind_global((event, data) => say("user", event, data));
    client.signin();
    client.user.signinDonePromise.then(() => say("subscribed", name, client.user.user_data));
    continue;
  }
  const channel = client.subscribe(name);
  channel.bind("pusher:subscription_succeeded", (members) => say("subscribed", name, members));
  channel.bind("pusher:subscription_error", (error) => say("refused", name, error));
  channel.bind_global((event, data) => {
    if (!event.startsWith("pusher:")) say("event", name, event, data);
  });
}

// Not by itself: where the server has closed, the library's WebSocket keeps a timer of 30 s.
process.stdin.resume().on("end", () => {
  client.disconnect();
  process.exit();
});
