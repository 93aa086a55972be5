// Channels of every type are subscribed, received from and left; cached events come first; a
// subscription that is refused says why.

import assert from "node:assert/strict";
import { test } from "node:test";

import { hear, hearAll } from "../harness/heard.js";
import { describeOnShards, subscribe } from "../harness/setting.js";

const PREFIXES = ["", "private-", "presence-", "private-encrypted-"];
const CACHE_PREFIXES = PREFIXES.map((prefix) => `${prefix}cache-`);
const member = { user_id: "ann" };

/** Resolves when the server has done what the client sent so far. */
async function serverIsDone(client) {
  const frames = hear(client.connection, "message");
  client.send_event("pusher:ping", {});
  while ((await frames.next()).event !== "pusher:pong");
}

describeOnShards("channels", {}, (setting) => {
  for (const prefix of [...PREFIXES, ...CACHE_PREFIXES]) {
    const name = `${prefix}room`;

    test(`${name} delivers from the subscription to the unsubscription`, async () => {
      const client = await setting.connect({ member });
      const heard = hearAll(await subscribe(client, name));
      await setting.publisher.trigger(name, "price", { eur: 1.5 });
      assert.deepEqual(await heard.next(), ["price", { eur: 1.5 }]);

      const frames = [];
      client.connection.bind("message", (frame) => frames.push(frame));
      client.unsubscribe(name);
      await serverIsDone(client);
      const info = "subscription_count";
      const answer = await setting.publisher.trigger(name, "unheard", {}, { info });
      assert.deepEqual(await answer.json(), { channels: { [name]: { subscription_count: 0 } } });
      await serverIsDone(client);
      assert.deepEqual(new Set(frames.map((frame) => frame.channel)), new Set([undefined]));
    });

    test(`${name}-2 is subscribed again after it was left`, async () => {
      const client = await setting.connect({ member });
      await subscribe(client, `${name}-2`);
      client.unsubscribe(`${name}-2`);
      const heard = hearAll(await subscribe(client, `${name}-2`));
      await setting.publisher.trigger(`${name}-2`, "once", "more");
      assert.deepEqual(await heard.next(), ["once", "more"]);
    });
  }

  for (const prefix of CACHE_PREFIXES) {
    test(`${prefix}empty tells a subscriber that it is`, async () => {
      const client = await setting.connect({ member });
      const channel = client.subscribe(`${prefix}empty`);
      const said = [];
      channel.bind("pusher:subscription_succeeded", () => said.push("succeeded"));
      await hear(channel, "pusher:cache_miss").next();
      assert.deepEqual(said, ["succeeded"]);
    });

    test(`${prefix}kept has its last event before those that follow`, async () => {
      const name = `${prefix}kept`;
      await setting.publisher.trigger(name, "price", { eur: 1 });
      await setting.publisher.trigger(name, "price", { eur: 2 });
      const client = await setting.connect({ member });
      const channel = client.subscribe(name);
      const heard = hearAll(channel);
      const missed = hear(channel, "pusher:cache_miss");
      assert.deepEqual(await heard.next(), ["price", { eur: 2 }]);

      await setting.publisher.trigger(name, "price", { eur: 3 });
      assert.deepEqual(await heard.next(), ["price", { eur: 3 }]);
      assert.equal(missed.count, 0);
    });
  }

  test("the application's own refusal is heard", async () => {
    const client = await setting.connect();
    const channel = client.subscribe("private-forbidden");
    const error = await hear(channel, "pusher:subscription_error").next();
    assert.equal(error.type, "AuthError");
    assert.equal(error.status, 403);
  });

  for (const name of ["private-forged", "private-cache-forged", "private-encrypted-forged"]) {
    test(`a wrong signature for ${name} is told twice, and the connection lives`, async () => {
      const client = await setting.connect();
      const errors = hear(client.connection, "error");
      const channel = client.subscribe(name);
      const refusal = await hear(channel, "pusher:subscription_error").next();
      assert.equal(refusal.type, "AuthError");
      assert.equal(refusal.status, 401);
      assert.match(refusal.error, /signature/i);
      assert.equal((await errors.next()).data.code, 4009);

      const heard = hearAll(await subscribe(client, "open"));
      const info = "subscription_count";
      const answer = await setting.publisher.trigger(name, "secret", "x", { info });
      assert.deepEqual(await answer.json(), { channels: { [name]: { subscription_count: 0 } } });
      await setting.publisher.trigger("open", "still", "here");
      assert.deepEqual(await heard.next(), ["still", "here"]);
    });
  }

  for (const name of ["a room", "a:b", "é", "x".repeat(201)]) {
    test(`the name ${name.slice(0, 10)} is refused`, async () => {
      const client = await setting.connect();
      const refusal = await hear(client.subscribe(name), "pusher:subscription_error").next();
      assert.equal(refusal.type, "InvalidChannel");
      assert.equal(refusal.status, 400);
    });
  }
});
