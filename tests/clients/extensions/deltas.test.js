// Delta compression, decoded with the decoders that clients use: what a subscriber with deltas makes
// of its texts is what a subscriber without them gets (extensions spec 3.5).
//
// "Peers n" names a defect of another server, number n of peers section 2.

import assert from "node:assert/strict";
import { test } from "node:test";

import { DeltaReader } from "../harness/deltas.js";
import { RawClient } from "../harness/raw.js";
import { describeOnShards, describeServer } from "../harness/setting.js";

const ALGORITHMS = ["fossil", "xdelta3"];

/** A tick of some 300 bytes in which two fields change. */
const tick = (nth, asset = "BTC") => ({
  asset,
  venue: "spot",
  price: (64_000 + (nth * 7919) % 1000) / 4,
  time: 1_764_100_000_000 + 250 * nth,
  notes: "the same in every message, so that there is something to save ".repeat(3),
});

const publish = (setting, channel, data, more) =>
  setting.publisher.trigger(channel, "tick", data, more);

/** A subscriber without deltas and one with them. */
async function pair(setting, channel, delta, options) {
  const plain = await RawClient.connect(setting, options);
  const client = await RawClient.connect(setting, options);
  await plain.subscribe(channel);
  await client.subscribe(channel, { delta });
  return { plain, client, reader: new DeltaReader() };
}

/** Reads as many texts on both sides and compares them. */
async function compare({ plain, client, reader }, count) {
  const texts = await client.texts.take(count);
  assert.deepEqual(texts.map((text) => reader.read(text)), await plain.texts.take(count));
  return texts;
}

async function expectConfirmed(client, algorithm, channel) {
  const { event, data, ...rest } = await client.next("delta_compression_enabled");
  assert.equal(event, `${client.prefix}:delta_compression_enabled`);
  assert.deepEqual(data, { enabled: true, algorithm, ...(channel && { channel }) });
  assert.deepEqual(rest, channel ? { channel } : {});
}

describeOnShards("delta compression", {}, (setting) => {
  for (const algorithm of ALGORITHMS) {
    for (const protocol of [7, 2]) {
      test(`${algorithm}, protocol ${protocol}: decoded texts are the plain ones`, async () => {
        const channel = `ticks-${algorithm}-${protocol}`;
        const both = await pair(setting, channel, algorithm, { protocol });
        await expectConfirmed(both.client, algorithm, channel);
        for (let nth = 0; nth < 40; nth += 1) await publish(setting, channel, tick(nth));
        const texts = await compare(both, 40);
        const forms = texts.map((text) => JSON.parse(text).event !== "tick");
        // The first in full, then ten deltas between two full ones.
        assert.deepEqual(forms, forms.map((_, nth) => nth % 11 !== 0));
        assert.ok(both.reader.bytes < 0.6 * 40 * texts[0].length, `${both.reader.bytes}`);
      });
    }
  }

  test("a connection asks for all its channels, present and future", async () => {
    const client = await RawClient.connect(setting);
    const plain = await RawClient.connect(setting);
    await client.subscribe("all-before");
    client.send("enable_delta_compression", { algorithms: ["zip", "xdelta3", "fossil"] });
    await expectConfirmed(client, "xdelta3");
    await client.subscribe("all-after");
    await client.subscribe("all-but", { delta: false });
    for (const channel of ["all-before", "all-after", "all-but"]) {
      await plain.subscribe(channel);
      const reader = new DeltaReader();
      for (let nth = 0; nth < 5; nth += 1) await publish(setting, channel, tick(nth));
      await compare({ plain, client, reader }, 5);
      const off = { plain: 5, full: 0, delta: 0 };
      const on = { plain: 0, full: 1, delta: 4 };
      assert.deepEqual(reader.counts, channel === "all-but" ? off : on, channel);
    }
  });

  test("whoever missed a message is not sent a delta that needs it", async () => {
    const { plain, client, reader } = await pair(setting, "missed", "fossil");
    await expectConfirmed(client, "fossil", "missed");
    const got = [];
    for (let nth = 0; nth < 30; nth += 1) {
      const isExcluded = nth % 4 === 3;
      const more = isExcluded ? { socket_id: client.socketId } : undefined;
      await publish(setting, "missed", tick(nth), more);
      const [text] = await plain.texts.take(1);
      if (!isExcluded) got.push(text);
    }
    const texts = await client.texts.take(got.length);
    assert.deepEqual(texts.map((text) => reader.read(text)), got);
    assert.ok(reader.counts.delta > 10, JSON.stringify(reader.counts));
  });

  test("after a report of a failure the next message is full", async () => {
    const both = await pair(setting, "resync", "xdelta3");
    await expectConfirmed(both.client, "xdelta3", "resync");
    for (let nth = 0; nth < 3; nth += 1) await publish(setting, "resync", tick(nth));
    await compare(both, 3);
    both.client.send("delta_sync_error", { channel: "resync" });
    // Its own answer comes after the report has been taken.
    both.client.send("ping", {});
    await both.client.next("pong");
    await publish(setting, "resync", tick(3));
    const [text] = await compare(both, 1);
    assert.equal(JSON.parse(text).event, "tick");
    await publish(setting, "resync", tick(4));
    assert.match((await compare(both, 1))[0], /"pusher:delta"/);
  });

  // Peers 22: `"delta":true` does nothing.
  test("the publisher may force or forbid the delta form", async () => {
    const both = await pair(setting, "forced", true);
    await expectConfirmed(both.client, "fossil", "forced");
    const isDelta = async (data, delta) => {
      await publish(setting, "forced", data, delta === undefined ? undefined : { delta });
      const [text] = await compare(both, 1);
      return JSON.parse(text).event === "pusher:delta";
    };
    // Too small for policy.
    assert.deepEqual([await isDelta("a"), await isDelta("b")], [false, false]);
    assert.equal(await isDelta("c", true), true);
    assert.equal(await isDelta(tick(0)), false);
    assert.equal(await isDelta(tick(1)), true);
    assert.equal(await isDelta(tick(2), false), false);
    assert.equal(await isDelta(tick(3)), true);
  });

  test("an encrypted channel has no deltas, and a stock client sees no trace of any", async () => {
    const secret = "private-encrypted-a";
    const { plain, client, reader } = await pair(setting, secret, true);
    const { data } = await client.next("delta_compression_enabled");
    assert.equal(data.enabled, false);
    for (let nth = 0; nth < 3; nth += 1) await setting.publisher.trigger(secret, "e", tick(nth));
    const texts = await plain.texts.take(3);
    assert.deepEqual(await client.texts.take(3), texts);
    assert.equal(reader.counts.delta, 0);

    const both = await pair(setting, "trace", true);
    await expectConfirmed(both.client, "fossil", "trace");
    for (let nth = 0; nth < 5; nth += 1) await publish(setting, "trace", tick(nth), { delta: true });
    for (let nth = 0; nth < 5; nth += 1) {
      const data = JSON.stringify(tick(nth));
      const expected = JSON.stringify({ event: "tick", channel: "trace", data });
      assert.equal(await both.plain.texts.next(), expected);
    }
  });

  test("filters and deltas go together", async () => {
    const plain = await RawClient.connect(setting);
    const client = await RawClient.connect(setting);
    const filter = { key: "asset", cmp: "in", vals: ["BTC", "ETH"] };
    await plain.subscribe("filtered", { filter });
    await client.subscribe("filtered", { filter, delta: "fossil" });
    await expectConfirmed(client, "fossil", "filtered");
    const assets = ["BTC", "XRP", "ETH"];
    for (let nth = 0; nth < 30; nth += 1) {
      const asset = assets[nth % 3];
      await publish(setting, "filtered", tick(nth, asset), { tags: { asset } });
    }
    const reader = new DeltaReader();
    await compare({ plain, client, reader }, 20);
    assert.ok(reader.counts.delta > 5, JSON.stringify(reader.counts));
  });
});

const BY_ASSET = { delta_channels: ["market-* conflation_key=asset"] };

describeOnShards("delta compression by key", { settings: BY_ASSET }, (setting) => {
  test("each key has a stream of its own, and a report of a failure begins all anew", async () => {
    const channel = "market-a";
    const both = await pair(setting, channel, "fossil");
    await expectConfirmed(both.client, "fossil", channel);
    const assets = ["BTC", "ETH", 'a "quoted" \\ one', ""];
    const send = async (rounds) => {
      for (let nth = 0; nth < rounds; nth += 1) {
        for (const asset of assets) await publish(setting, channel, tick(nth, asset));
        await publish(setting, channel, { ...tick(nth), asset: undefined });
      }
      return compare(both, rounds * (assets.length + 1));
    };
    await send(6);
    const { full, delta } = both.reader.counts;
    // A message without the key has the key "", whose twelfth message is in full again.
    assert.deepEqual([full, delta], [5, 25]);
    both.client.send("delta_sync_error", { channel });
    both.client.send("ping", {});
    await both.client.next("pong");
    await send(2);
    assert.equal(both.reader.counts.full, full + 4);
  });
});

describeServer("delta compression off", { settings: { delta_compression: false } }, (setting) => {
  test("whoever asks is told that there is none, and gets plain texts", async () => {
    const { plain, client } = await pair(setting, "off", true);
    const { data } = await client.next("delta_compression_enabled");
    assert.equal(data.enabled, false);
    client.send("enable_delta_compression", {});
    assert.equal((await client.next("delta_compression_enabled")).data.enabled, false);
    for (let nth = 0; nth < 3; nth += 1) await publish(setting, "off", tick(nth), { delta: true });
    assert.deepEqual(await client.texts.take(3), await plain.texts.take(3));
  });
});
