// Events between clients: who hears them, who is named as the sender, and what is refused.

import assert from "node:assert/strict";
import { test } from "node:test";

import { hear, hearAll } from "../harness/heard.js";
import { describeOnShards, describeServer, subscribe } from "../harness/setting.js";

const REJECTED = 4301;

describeOnShards("client events", {}, (setting) => {
  async function join(name, user_id = "ann") {
    return subscribe(await setting.connect({ member: { user_id } }), name);
  }

  for (const name of ["private-chat", "private-cache-chat", "presence-chat"]) {
    test(`an event on ${name} reaches everybody else`, async () => {
      const [sender, ...others] = [await join(name), await join(name), await join(name, "bob")];
      const own = hearAll(sender);
      const heard = others.map(hearAll);

      sender.trigger("client-typing", { on: true });
      for (const other of heard) {
        assert.deepEqual(await other.next(), ["client-typing", { on: true }]);
      }
      await setting.publisher.trigger(name, "last", "one");
      assert.deepEqual(await own.next(), ["last", "one"]);
    });
  }

  test("the sender on a presence channel is named by the server", async () => {
    const sender = await join("presence-named", "ann");
    const other = await join("presence-named", "bob");
    const heard = new Promise((resolve) =>
      other.bind("client-hello", (data, metadata) => resolve([data, metadata])),
    );
    sender.trigger("client-hello", { user_id: "mallory" });
    assert.deepEqual(await heard, [{ user_id: "mallory" }, { user_id: "ann" }]);
  });

  test("a client event is not cached", async () => {
    const sender = await join("private-cache-forgetful");
    const heard = hearAll(await join("private-cache-forgetful"));
    sender.trigger("client-note", "x");
    await heard.next();
    const late = (await setting.connect()).subscribe("private-cache-forgetful");
    await hear(late, "pusher:cache_miss").next();
  });

  test("a client event on a public channel is rejected, and the connection lives", async () => {
    const client = await setting.connect();
    const errors = hear(client.connection, "error");
    const channel = await subscribe(client, "public");
    channel.trigger("client-typing", {});
    assert.equal((await errors.next()).data.code, REJECTED);

    const heard = hearAll(channel);
    await setting.publisher.trigger("public", "still", "here");
    assert.deepEqual(await heard.next(), ["still", "here"]);
  });

  test("a client event without a subscription is rejected", async () => {
    const client = await setting.connect();
    const errors = hear(client.connection, "error");
    client.send_event("client-typing", {}, "private-elsewhere");
    assert.equal((await errors.next()).data.code, REJECTED);
  });

  test("a client event that is too large is rejected", async () => {
    const channel = await join("private-large");
    const errors = hear(channel.pusher.connection, "error");
    channel.trigger("client-large", "x".repeat(10 * 1024 + 1));
    assert.equal((await errors.next()).data.code, REJECTED);
  });

  test("of many client events in a second ten arrive", async () => {
    const sender = await join("private-fast");
    const heard = hearAll(await join("private-fast"));
    const errors = hear(sender.pusher.connection, "error");
    for (let i = 0; i < 50; i++) sender.trigger("client-fast", { i });
    assert.equal((await errors.next()).data.code, REJECTED);
    const ten = await heard.take(10);
    assert.deepEqual(
      ten.map(([, { i }]) => i),
      [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    );
  });
});

const disabled = { settings: { client_events: false } };
describeServer("an app without client events", disabled, (setting) => {
  test("rejects them", async () => {
    const client = await setting.connect();
    const errors = hear(client.connection, "error");
    (await subscribe(client, "private-quiet")).trigger("client-typing", {});
    assert.equal((await errors.next()).data.code, REJECTED);
  });
});
