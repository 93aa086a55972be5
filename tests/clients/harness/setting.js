// A server, the application's site and clients of both kinds, for one `describe`.
//
// Everything that is opened through a `Setting` is closed by it.

import { after, before, describe } from "node:test";

import Publisher from "pusher";
import Pusher from "pusher-js";

import { hear } from "./heard.js";
import { Server } from "./server.js";
import { Site } from "./site.js";

/** Of encrypted channels: 32 bytes that the server never learns. */
export const ENCRYPTION_KEY = Buffer.alloc(32, "shardcast").toString("base64");

/** Describes `body(setting)` on a server with one shard and again on one with three. */
export function describeOnShards(name, { settings, files } = {}, body) {
  for (const shards of [1, 3]) {
    describeServer(`${name}, shards = ${shards}`, { shards, settings, files }, body);
  }
}

/** Describes `body(setting)` on a server of its own. */
export function describeServer(name, { files, ...options }, body) {
  describe(name, () => {
    const setting = new Setting(new Server(options), files);
    before(() => setting.start());
    after(() => setting.stop());
    body(setting);
  });
}

class Setting {
  #clients = [];
  #files;

  constructor(server, files) {
    this.server = server;
    this.#files = files;
  }

  async start() {
    await this.server.start();
    this.publisher = this.publisherWith();
    this.site = new Site(this.publisher, this.#files);
    await this.site.start();
  }

  async stop() {
    for (const client of this.#clients) client.disconnect();
    await this.site.stop();
    await this.server.stop();
  }

  /** The `pusher` library for Node with the app's credentials, or others. */
  publisherWith(options = {}) {
    const { app, host, port } = this.server;
    return new Publisher({
      appId: app.id,
      key: app.key,
      secret: app.secret,
      host,
      port: String(port),
      useTLS: false,
      encryptionMasterKeyBase64: ENCRYPTION_KEY,
      ...options,
    });
  }

  /**
   * Options of pusher-js; `member` is who it is on presence channels, `user` who signs in.
   */
  clientOptions(member, user) {
    return {
      cluster: "",
      wsHost: this.server.host,
      wsPort: this.server.port,
      forceTLS: false,
      enabledTransports: ["ws"],
      channelAuthorization: {
        endpoint: `${this.site.url}/auth`,
        transport: "ajax",
        params: { member: JSON.stringify(member ?? null) },
      },
      userAuthentication: {
        endpoint: `${this.site.url}/user-auth`,
        transport: "ajax",
        params: { user: JSON.stringify(user) },
      },
    };
  }

  /** A pusher-js client that has begun to connect. */
  open({ member, user, key = this.server.app.key } = {}) {
    return this.keep(new Pusher(key, this.clientOptions(member, user)));
  }

  /** Has it disconnected at the end. */
  keep(client) {
    this.#clients.push(client);
    return client;
  }

  /** The same, connected. */
  async connect(options) {
    const client = this.open(options);
    await hear(client.connection, "connected").next();
    return client;
  }
}

/** Subscribes, and resolves to the channel once the server has confirmed it. */
export async function subscribe(client, name) {
  const channel = client.subscribe(name);
  await hear(channel, "pusher:subscription_succeeded").next();
  return channel;
}
