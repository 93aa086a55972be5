// Tag filters of ordinary Pusher connections and of protocol 2 (extensions spec 2).
//
// What a subscriber must not get is shown by the next event that it does get. "Peers n" names a
// defect of another server, number n of peers section 2.

import assert from "node:assert/strict";
import { test } from "node:test";

import { RawClient } from "../harness/raw.js";
import { describeOnShards, describeServer } from "../harness/setting.js";

const SPOT_BTC_OR_ETH = {
  op: "and",
  nodes: [
    { key: "market", cmp: "eq", val: "spot" },
    { key: "asset", cmp: "in", vals: ["BTC", "ETH"] },
  ],
};

const publish = (setting, channel, event, data, tags) =>
  setting.publisher.trigger(channel, event, data, tags && { tags });

describeOnShards("tag filters", {}, (setting) => {
  for (const protocol of [7, 2]) {
    // Peers 23: filters of Pusher clients are stored and ignored.
    test(`protocol ${protocol}: a subscriber gets what its filter wants`, async () => {
      const channel = `ticker-${protocol}`;
      const all = await RawClient.connect(setting, { protocol });
      const some = await RawClient.connect(setting, { protocol });
      const other = await RawClient.connect(setting, { protocol });
      await all.subscribe(channel);
      await some.subscribe(channel, { filter: SPOT_BTC_OR_ETH });
      await other.subscribe(channel, { tags_filter: { key: "market", cmp: "nex" } });

      const events = [
        [{ market: "spot", asset: "BTC" }, "some"],
        [{ market: "futures", asset: "BTC" }, "nobody"],
        [{ market: "spot", asset: "XRP" }, "nobody"],
        [{ asset: "ETH", market: "spot", size: 5 }, "some"],
        [undefined, "other"],
        [{ asset: "ETH" }, "other"],
      ];
      for (const [nth, [tags]] of events.entries()) {
        await publish(setting, channel, "tick", { nth }, tags);
      }
      await publish(setting, channel, "end", {}, { market: "spot", asset: "BTC" });
      await publish(setting, channel, "end", {});

      const texts = await all.texts.take(events.length + 2);
      const wanted = (who) => texts.filter((_, nth) => events[nth]?.[1] === who);
      assert.deepEqual(await some.texts.take(3), [...wanted("some"), texts.at(-2)]);
      assert.deepEqual(await other.texts.take(3), [...wanted("other"), texts.at(-1)]);
      assert.ok(texts.every((text) => !text.includes("tags")));
    });
  }

  test("names of events are filtered by, beside tags and alone", async () => {
    const channel = "named";
    const compound = await RawClient.connect(setting);
    const listed = await RawClient.connect(setting);
    const tags = { key: "a", cmp: "ex" };
    await compound.subscribe(channel, { filter: { events: ["tick", "end"], tags } });
    await listed.subscribe(channel, { events: ["trade", "end"] });
    for (const event of ["tick", "trade", "other", "end"]) {
      await publish(setting, channel, event, {}, { a: 1 });
      await publish(setting, channel, event, {});
    }
    const names = async (client, count) => {
      const texts = await client.texts.take(count);
      return texts.map((text) => JSON.parse(text).event);
    };
    assert.deepEqual(await names(compound, 2), ["tick", "end"]);
    assert.deepEqual(await names(listed, 4), ["trade", "trade", "end", "end"]);
    assert.equal(compound.texts.count + listed.texts.count, 0);
  });

  test("a filter that is none is refused, and there is no subscription", async () => {
    const client = await RawClient.connect(setting);
    for (const filter of [{}, { op: "xor", nodes: [] }, { key: "a", cmp: "eq" }, 5]) {
      client.askFor("refused", { filter });
      await expectRefused(client, "refused");
    }
    await client.subscribe("refused");
  });
});

// Peers 23: where filtering is off, filters are ignored and everything is sent.
describeServer("tag filters off", { settings: { tag_filtering: false } }, (setting) => {
  test("a filter is refused rather than ignored", async () => {
    const client = await RawClient.connect(setting);
    client.askFor("ticker", { filter: SPOT_BTC_OR_ETH });
    await expectRefused(client, "ticker");
    client.askFor("ticker", { events: ["tick"] });
    await expectRefused(client, "ticker");
    await client.subscribe("ticker");
    await publish(setting, "ticker", "tick", {}, { market: "futures" });
    assert.equal((await client.next()).event, "tick");
  });
});

async function expectRefused(client, channel) {
  const error = await client.next("error");
  assert.equal(error.data.code, null);
  assert.match(error.data.message, /^Invalid filter: ./);
  const refused = await client.next("subscription_error");
  const { type, status } = JSON.parse(refused.data);
  assert.deepEqual([refused.channel, type, status], [channel, "InvalidFilter", 400]);
}
