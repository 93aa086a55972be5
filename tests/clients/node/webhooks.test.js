// The `pusher` library for Node finds every webhook of the server valid, of every kind, and reads
// from it what has happened; with other credentials, or another body, it finds none valid.

import assert from "node:assert/strict";
import { after, test } from "node:test";

import { Receiver } from "../harness/receiver.js";
import { describeServer, subscribe } from "../harness/setting.js";

const KINDS = [
  "channel_occupied",
  "channel_vacated",
  "member_added",
  "member_removed",
  "client_event",
  "cache_miss",
  "subscription_count",
];

// The configuration names their ports.
const receivers = await Promise.all([1, 3].map(async (shards) => [shards, await Receiver.start()]));

for (const [shards, receiver] of receivers) {
  const options = {
    shards,
    settings: { subscription_count: "on", webhook_delay_ms: 100 },
    webhooks: [{ url: receiver.url, event_types: KINDS, parallel_max: 1 }],
  };

  describeServer(`webhooks, shards = ${shards}`, options, (setting) => {
    after(() => receiver.stop());

    /** Webhooks up to the one with an event that `is` true of; each has been found valid. */
    async function webhooksThrough(is) {
      const webhooks = [];
      for (;;) {
        const webhook = setting.publisher.webhook(await receiver.heard.next());
        assert.ok(webhook.isContentTypeValid() && webhook.isBodyValid() && webhook.isValid());
        webhooks.push(webhook);
        if (webhook.getEvents().some(is)) return webhooks;
      }
    }

    test("events of every kind come in webhooks that are valid", async () => {
      const began = Date.now();
      const member = { user_id: "ann", user_info: { name: "Ann" } };
      const client = await setting.connect({ member });
      const room = await subscribe(client, "presence-room");
      await subscribe(client, "private-encrypted-secret");
      await subscribe(client, "cache-kept");
      room.trigger("client-typing", { on: true, text: "Grüße, ☃ and 🦀" });
      client.unsubscribe("cache-kept");
      client.unsubscribe("presence-room");

      const wanted = new Set(KINDS);
      const webhooks = await webhooksThrough(({ name }) => {
        wanted.delete(name);
        return wanted.size === 0;
      });
      const events = webhooks.flatMap((webhook) => webhook.getEvents());
      const find = (kind, channel) =>
        events.find(({ name, channel: of }) => name === kind && (!channel || of === channel));

      const channel = "presence-room";
      assert.deepEqual(find("channel_occupied", channel), { name: "channel_occupied", channel });
      assert.deepEqual(find("member_added"), { name: "member_added", channel, user_id: "ann" });
      const { data, ...sent } = find("client_event");
      assert.deepEqual(JSON.parse(data), { on: true, text: "Grüße, ☃ and 🦀" });
      assert.deepEqual(sent, {
        name: "client_event",
        channel,
        event: "client-typing",
        socket_id: client.connection.socket_id,
        user_id: "ann",
      });
      assert.deepEqual(find("cache_miss"), { name: "cache_miss", channel: "cache-kept" });
      assert.equal(typeof find("subscription_count").subscription_count, "number");
      assert.ok(find("channel_occupied", "private-encrypted-secret"));
      for (const webhook of webhooks) {
        const time = webhook.getTime().getTime();
        assert.ok(began <= time && time <= Date.now());
      }
    });

    test("other credentials, and another body, make none valid", async () => {
      await subscribe(await setting.connect(), "validity");
      let request;
      do request = await receiver.heard.next();
      while (!request.rawBody.includes("validity"));
      assert.ok(setting.publisher.webhook(request).isValid());
      const { key, secret } = setting.server.app;
      for (const wrong of [{ secret: "other" }, { key: "other" }]) {
        assert.ok(!setting.publisherWith(wrong).webhook(request).isValid());
      }
      assert.ok(setting.publisherWith({ key, secret }).webhook(request).isValid());
      const changed = { ...request, rawBody: request.rawBody.replace("validity", "Validity") };
      assert.notEqual(changed.rawBody, request.rawBody);
      assert.ok(!setting.publisher.webhook(changed).isValid());
    });
  });
}
