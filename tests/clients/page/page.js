// Subscribes to one channel of every type and shows what arrives.
//
// A classic script on purpose: pusher-js is loaded by a script tag, as its documentation shows. The
// query of the page names the server: `?port=6001&key=app-key&name=Page`.

const CHANNELS = [
  "news",
  "private-news",
  "presence-hall",
  "private-encrypted-news",
  "cache-news",
  "private-cache-news",
  "presence-cache-hall",
  "private-encrypted-cache-news",
  "private-forbidden",
  "private-forged",
];

const query = new URLSearchParams(location.search);
const name = query.get("name");

const pusher = new Pusher(query.get("key"), {
  cluster: "",
  wsHost: location.hostname,
  wsPort: Number(query.get("port")),
  forceTLS: false,
  enabledTransports: ["ws", "wss"],
  channelAuthorization: {
    endpoint: "/auth",
    transport: "ajax",
    params: {
      member: JSON.stringify({ user_id: name.toLowerCase(), user_info: { name } }),
    },
  },
});

function show(id, text) {
  document.getElementById(id).textContent = text;
}

pusher.connection.bind("state_change", ({ current }) => {
  show("state", current);
  document.getElementById("state").className = current;
  show("socket-id", pusher.connection.socket_id ?? "–");
});
pusher.connection.bind("error", ({ error, data = error?.data }) => {
  show("error", data ? `${data.code}: ${data.message}` : "no connection");
});

/** The part of the page that shows a channel. */
class Panel {
  constructor(channel) {
    const part = document.getElementById("channel").content.cloneNode(true).firstElementChild;
    part.dataset.channel = channel;
    part.querySelector("h2").textContent = channel;
    this.status = part.querySelector(".status");
    this.rows = part.querySelector("tbody");
    document.getElementById("channels").append(part);
  }

  say(className, text) {
    this.status.className = `status ${className}`;
    this.status.textContent = text;
  }

  add(event, data) {
    const row = this.rows.insertRow();
    for (const [className, text] of [
      ["event", event],
      ["data", typeof data === "string" ? data : JSON.stringify(data)],
    ]) {
      const cell = row.insertCell();
      cell.className = className;
      cell.textContent = text;
    }
  }
}

function showMembers(channel) {
  const names = Object.values(channel.members.members).map((info) => info.name);
  show("members", names.sort().join(", "));
}

for (const channelName of CHANNELS) {
  const panel = new Panel(channelName);
  const channel = pusher.subscribe(channelName);
  pusher.connection.bind("connecting", () => panel.say("", "subscribing"));
  channel.bind("pusher:subscription_succeeded", () => panel.say("subscribed", "subscribed"));
  channel.bind("pusher:subscription_error", ({ type, status }) =>
    panel.say("refused", `${type}, status ${status}`),
  );
  channel.bind("pusher:cache_miss", () => panel.add("cache miss", ""));
  channel.bind_global((event, data) => {
    if (!event.startsWith("pusher:")) panel.add(event, data);
  });
  if (channelName === "presence-hall") {
    for (const event of ["subscription_succeeded", "member_added", "member_removed"]) {
      channel.bind(`pusher:${event}`, () => showMembers(channel));
    }
  }
}

document.getElementById("wave").addEventListener("click", () => {
  pusher.channel("presence-hall").trigger("client-wave", { from: name });
});
