// How many are subscribed, as pusher-js tells it where the app wants it.

import assert from "node:assert/strict";
import { test } from "node:test";

import { hear } from "../harness/heard.js";
import { describeOnShards } from "../harness/setting.js";

const settings = { subscription_count: "on" };

/** Subscribes and gives the channel and its counts; the first may come at once. */
function counted(client, name) {
  const channel = client.subscribe(name);
  return { channel, counts: hear(channel, "pusher:subscription_count") };
}

describeOnShards("subscription counts", { settings }, (setting) => {
  for (const name of ["counted", "private-counted", "cache-counted"]) {
    test(`${name} tells every change to those who are there`, async () => {
      const first = counted(await setting.connect(), name);
      assert.deepEqual(await first.counts.next(), { subscription_count: 1 });
      const client = await setting.connect();
      const second = counted(client, name);
      for (const { channel, counts } of [first, second]) {
        assert.deepEqual(await counts.next(), { subscription_count: 2 });
        assert.equal(channel.subscriptionCount, 2);
      }
      client.unsubscribe(name);
      assert.deepEqual(await first.counts.next(), { subscription_count: 1 });
      const third = counted(client, name);
      assert.deepEqual(await third.counts.next(), { subscription_count: 2 });
      assert.deepEqual(await first.counts.next(), { subscription_count: 2 });
      client.disconnect();
      assert.deepEqual(await first.counts.next(), { subscription_count: 1 });
      assert.equal(first.counts.count + second.counts.count + third.counts.count, 0);
    });
  }
});
