// A client written from the specification: one WebSocket, and the texts as they come.

import WebSocket from "ws";

import { Heard } from "./heard.js";

export class RawClient {
  /** Every text since the greeting that was not read, as it came. */
  texts = new Heard("a WebSocket");
  #socket;
  #setting;

  /** Connects and reads the greeting. */
  static async connect(setting, { protocol = 7 } = {}) {
    const client = new RawClient();
    const { host, port, app } = setting.server;
    client.prefix = protocol === 2 ? "sockudo" : "pusher";
    client.#setting = setting;
    client.#socket = new WebSocket(`ws://${host}:${port}/app/${app.key}?protocol=${protocol}`);
    client.#socket.on("message", (bytes) => client.texts.push(bytes.toString()));
    setting.keep(client);
    const greeting = await client.next("connection_established");
    client.socketId = JSON.parse(greeting.data).socket_id;
    return client;
  }

  disconnect() {
    this.#socket.terminate();
  }

  /** Sends a platform event. */
  send(event, data) {
    this.#socket.send(JSON.stringify({ event: `${this.prefix}:${event}`, data }));
  }

  /** The next text, which must be this platform event if one is named. */
  async next(event) {
    const message = JSON.parse(await this.texts.next());
    if (event && !message.event.endsWith(`:${event}`)) {
      throw new Error(`expected ${event}, got ${JSON.stringify(message)}`);
    }
    return message;
  }

  /** Asks for a subscription; `more` are further members of its data. */
  askFor(channel, more = {}) {
    const auth = /^(private|presence)-/.test(channel) ? this.#authorize(channel) : {};
    this.send("subscribe", { channel, ...auth, ...more });
  }

  /** The same, confirmed. */
  async subscribe(channel, more) {
    this.askFor(channel, more);
    return this.next("subscription_succeeded");
  }

  #authorize(channel) {
    const member = channel.startsWith("presence-") ? { user_id: this.socketId } : undefined;
    return this.#setting.publisher.authorizeChannel(this.socketId, channel, member);
  }
}
