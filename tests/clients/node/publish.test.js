// What the `pusher` library for Node publishes arrives as it was sent, where it was sent, in order;
// what the server refuses the library throws, with the status and a text that says why.

import assert from "node:assert/strict";
import { test } from "node:test";

import { hearAll } from "../harness/heard.js";
import { describeOnShards, subscribe } from "../harness/setting.js";

const DATA = [
  "plain text",
  "",
  "12345678901234567890",
  { nested: { list: [1, "two", null, true], empty: {} } },
  [],
  0.1,
  null,
  'quotes " and \\ and \u2028 and \u0000 and </script>',
  "Grüße, ☃ and 🦀",
  "x".repeat(100 * 1024),
];

describeOnShards("publish", {}, (setting) => {
  async function listen(name, member) {
    const client = await setting.connect({ member });
    return hearAll(await subscribe(client, name));
  }

  test("data of every kind arrives as it was sent", async () => {
    const heard = await listen("data");
    for (const data of DATA) {
      await setting.publisher.trigger("data", "event", data);
      const parsed = data === "12345678901234567890" ? Number(data) : data;
      assert.deepEqual(await heard.next(), ["event", parsed]);
    }
  });

  test("one event goes to many channels", async () => {
    const client = await setting.connect();
    const names = Array.from({ length: 100 }, (_, i) => `many-${i}`);
    const heard = await Promise.all(
      names.map(async (name) => hearAll(await subscribe(client, name))),
    );
    const answer = await setting.publisher.trigger(names, "to-all", { n: 100 });
    assert.deepEqual(await answer.json(), { ok: true });
    for (const channel of heard) assert.deepEqual(await channel.next(), ["to-all", { n: 100 }]);
  });

  test("the excluded connection alone hears nothing, on any of the channels", async () => {
    const names = ["exclude-a", "exclude-b"];
    const [excluded, other] = [await setting.connect(), await setting.connect()];
    const at = (client) =>
      Promise.all(names.map(async (name) => hearAll(await subscribe(client, name))));
    const [own, others] = [await at(excluded), await at(other)];

    const { socket_id } = excluded.connection;
    await setting.publisher.trigger(names, "first", 1, { socket_id });
    await setting.publisher.trigger(names, "second", 2);
    for (const heard of own) assert.deepEqual(await heard.next(), ["second", 2]);
    for (const heard of others) {
      assert.deepEqual(await heard.take(2), [
        ["first", 1],
        ["second", 2],
      ]);
    }
  });

  test("events published one after the other arrive in that order", async () => {
    const listeners = await Promise.all([1, 2, 3, 4].map(() => listen("order")));
    const sent = Array.from({ length: 200 }, (_, i) => ["step", i]);
    for (const [event, data] of sent) await setting.publisher.trigger("order", event, data);
    for (const heard of listeners) assert.deepEqual(await heard.take(200), sent);
  });

  test("a batch delivers each event to its channel, with its own exclusion", async () => {
    const client = await setting.connect();
    const names = ["batch", "private-batch", "private-encrypted-batch"];
    const heard = await Promise.all(
      names.map(async (name) => hearAll(await subscribe(client, name))),
    );
    const { socket_id } = client.connection;
    const answer = await setting.publisher.triggerBatch([
      { channel: names[0], name: "one", data: { n: 1 } },
      { channel: names[0], name: "excluded", data: "", socket_id },
      { channel: names[1], name: "two", data: "2nd" },
      { channel: names[2], name: "three", data: { secret: true } },
      { channel: names[0], name: "four", data: [4] },
    ]);
    assert.deepEqual(await answer.json(), {});
    assert.deepEqual(await heard[0].take(2), [
      ["one", { n: 1 }],
      ["four", [4]],
    ]);
    assert.deepEqual(await heard[1].next(), ["two", "2nd"]);
    assert.deepEqual(await heard[2].next(), ["three", { secret: true }]);
  });

  test("the answer has the counts that were asked for", async () => {
    const ann = { user_id: "ann" };
    for (let i = 0; i < 3; i++) await listen("presence-counted", ann);
    await listen("presence-counted", { user_id: "bob" });
    await listen("counted");

    const info = "user_count,subscription_count";
    const channels = ["presence-counted", "counted", "nobody"];
    const answer = await setting.publisher.trigger(channels, "event", "", { info });
    assert.deepEqual(await answer.json(), {
      channels: {
        "presence-counted": { user_count: 2, subscription_count: 4 },
        counted: { subscription_count: 1 },
        nobody: { subscription_count: 0 },
      },
    });

    const batch = await setting.publisher.triggerBatch([
      { channel: "presence-counted", name: "event", data: "", info: "user_count" },
      { channel: "counted", name: "event", data: "" },
      { channel: "counted", name: "event", data: "", info: "subscription_count" },
    ]);
    const { batch: attributes } = await batch.json();
    assert.deepEqual(attributes, [{ user_count: 2 }, {}, { subscription_count: 1 }]);
  });

  const publish = (publisher) => publisher.trigger("refused", "event", "data");
  const REFUSALS = [
    ["a wrong secret", { secret: "wrong" }, publish, 401, /signature/i],
    ["an unknown key", { key: "nobody" }, publish, 401, /auth_key/],
    ["an unknown app", { appId: "0" }, publish, 404, /app/i],
    ["an event of the protocol", {}, (p) => p.trigger("refused", "pusher:x", ""), 400, /name/],
    ["too much data", {}, (p) => p.trigger("refused", "e", "x".repeat(102_401)), 413, /100KB/],
    [
      "a batch of eleven",
      {},
      (p) => p.triggerBatch(Array(11).fill({ channel: "refused", name: "e", data: "" })),
      400,
      /10/,
    ],
    [
      "a batch with one bad event",
      {},
      (p) =>
        p.triggerBatch([
          { channel: "refused", name: "good", data: "" },
          { channel: "no channel", name: "bad", data: "" },
        ]),
      400,
      /channel/,
    ],
  ];

  for (const [what, options, send, status, text] of REFUSALS) {
    test(`${what} is refused with ${status}, and nothing is published`, async () => {
      const heard = await listen("refused");
      const error = await send(setting.publisherWith(options)).then(
        () => assert.fail("it was accepted"),
        (error) => error,
      );
      assert.equal(error.name, "PusherRequestError");
      assert.equal(error.status, status);
      const body = JSON.parse(error.body);
      assert.match(body.error, text);
      assert.equal(body.status, status);

      await setting.publisher.trigger("refused", "last", "one");
      assert.deepEqual(await heard.next(), ["last", "one"]);
    });
  }
});
