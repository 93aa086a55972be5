// A pusher-js client as a process: subscribes to the channels of its arguments and prints what it
// is told, a JSON value a line, until its standard input ends. For tests in other languages.
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
});
client.connection.bind("connected", ({ socket_id }) => say("connected", socket_id));

for (const name of names) {
  const channel = client.subscribe(name);
  channel.bind("pusher:subscription_succeeded", (members) => say("subscribed", name, members));
  channel.bind("pusher:subscription_error", (error) => say("refused", name, error));
  channel.bind_global((event, data) => {
    if (!event.startsWith("pusher:")) say("event", name, event, data);
  });
}

process.stdin.resume().on("end", () => client.disconnect());
