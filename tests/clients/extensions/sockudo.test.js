// Sockudo's own JavaScript client over protocol 2: every type of channel, filters, deltas.
//
// The client is in no registry; `SOCKUDO_JS` names a checkout of its source (see ../install), and
// without it these tests are skipped. It decodes deltas with the reference decoders itself.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";

import WebSocket from "ws";

import { hear, hearAll } from "../harness/heard.js";
import { WORK } from "../harness/server.js";
import { ENCRYPTION_KEY, describeOnShards } from "../harness/setting.js";

const BUNDLE = join(WORK, "sockudo/sockudo.cjs");
const skip = existsSync(BUNDLE) ? false : "SOCKUDO_JS named no source when these tests were installed";

// Its runtime for Node wants the browser's.
globalThis.WebSocket ??= WebSocket;
const Sockudo = skip ? undefined : createRequire(import.meta.url)(BUNDLE).default;

/** The sockudo client, connected. */
async function connect(setting, options = {}) {
  const { app } = setting.server;
  const client = new Sockudo(app.key, {
    ...setting.clientOptions(options.member),
    protocolVersion: 2,
    ...options,
  });
  setting.keep(client);
  await hear(client.connection, "connected").next();
  return client;
}

async function subscribe(client, name, options) {
  const channel = client.subscribe(name, options);
  const succeeded = await hear(channel, "sockudo:subscription_succeeded").next();
  return { channel, succeeded };
}

describeOnShards("Sockudo's client", {}, (setting) => {
  test("subscribes to every type of channel and gets what is published", { skip }, async () => {
    const client = await connect(setting, { member: { user_id: "u1", user_info: { n: 1 } } });
    for (const name of ["public", "private-a", "presence-a", "cache-a", "private-cache-a"]) {
      const { channel } = await subscribe(client, name);
      const heard = hear(channel, "e");
      await setting.publisher.trigger(name, "e", { name });
      assert.deepEqual(await heard.next(), { name });
    }
    const { channel } = await subscribe(client, "private-encrypted-a");
    const heard = hear(channel, "e");
    await setting.publisher.trigger("private-encrypted-a", "e", { secret: ENCRYPTION_KEY });
    assert.deepEqual(await heard.next(), { secret: ENCRYPTION_KEY });
  });

  test("sees who is on a presence channel, and who comes and goes", { skip }, async () => {
    const [one, two] = ["u1", "u2"].map((user_id) => ({ user_id, user_info: {} }));
    const first = await connect(setting, { member: one });
    const { channel, succeeded } = await subscribe(first, "presence-room");
    assert.deepEqual([succeeded.count, channel.members.me.id], [1, "u1"]);
    const added = hear(channel, "sockudo:member_added");
    const removed = hear(channel, "sockudo:member_removed");
    const second = await connect(setting, { member: two });
    const room = await subscribe(second, "presence-room");
    assert.equal(room.succeeded.count, 2);
    assert.equal((await added.next()).id, "u2");
    second.unsubscribe("presence-room");
    assert.equal((await removed.next()).id, "u2");
  });

  test("sends client events to others", { skip }, async () => {
    const [sender, receiver] = [await connect(setting), await connect(setting)];
    const { channel } = await subscribe(sender, "private-chat");
    const heard = hear((await subscribe(receiver, "private-chat")).channel, "client-hello");
    channel.trigger("client-hello", { from: "sender" });
    assert.deepEqual(await heard.next(), { from: "sender" });
  });

  test("gets what its filter wants", { skip }, async () => {
    const client = await connect(setting);
    const filter = { key: "asset", cmp: "eq", val: "BTC" };
    const { channel } = await subscribe(client, "ticker", { filter, events: ["tick", "end"] });
    const heard = hearAll(channel);
    for (const [event, asset] of [["tick", "BTC"], ["tick", "ETH"], ["trade", "BTC"], ["end", "BTC"]]) {
      await setting.publisher.trigger("ticker", event, { asset }, { tags: { asset } });
    }
    const wanted = [["tick", { asset: "BTC" }], ["end", { asset: "BTC" }]];
    assert.deepEqual((await heard.take(2)).map(([event, data]) => [event, data]), wanted);
  });

  for (const algorithm of ["fossil", "xdelta3"]) {
    test(`decodes deltas by ${algorithm}`, { skip }, async () => {
      const name = `deltas-${algorithm}`;
      const options = { deltaCompression: { enabled: true, algorithms: [algorithm] } };
      const client = await connect(setting, options);
      await hear(client, "sockudo:delta_compression_enabled").next();
      const { channel } = await subscribe(client, name);
      const heard = hear(channel, "tick");
      const tick = (nth) => ({ nth, notes: "the same in every message ".repeat(10) });
      for (let nth = 0; nth < 25; nth += 1) await setting.publisher.trigger(name, "tick", tick(nth));
      // What came as a delta it leaves as the text that it is.
      const told = (await heard.take(25)).map((data) => (typeof data === "string" ? JSON.parse(data) : data));
      assert.deepEqual(told, told.map((_, nth) => tick(nth)));
      const { deltaMessages, fullMessages, errors } = client.getDeltaStats();
      assert.deepEqual([deltaMessages, fullMessages, errors], [22, 3, 0]);
    });
  }
});
