// A pusher-js client connects, is refused, is silent, only listens, and survives a restart of the
// server, as its states and errors show.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { hear, hearAll, RECONNECT_MS_MAX } from "../harness/heard.js";
import { describeOnShards, describeServer, subscribe } from "../harness/setting.js";

/** So that a few seconds are several timeouts. */
const settings = { activity_timeout_secs: 1, pong_timeout_secs: 1 };
const SEVERAL_TIMEOUTS_MS = 3_500;

/** Each frame that arrives puts off the client's own ping, so that it sends nothing unasked. */
async function onlyReceive(setting) {
  const client = await setting.connect();
  const states = hear(client.connection, "state_change");
  const heard = hearAll(await subscribe(client, "often"));

  const end = Date.now() + SEVERAL_TIMEOUTS_MS;
  let count = 0;
  for (; Date.now() < end; count++) {
    await setting.publisher.trigger("often", "tick", String(count));
    assert.deepEqual(await heard.next(), ["tick", count]);
    await sleep(200);
  }
  assert.ok(count > 5, `${count} ticks are too few to keep it from pinging`);
  assert.equal(states.count, 0);
}

describeOnShards("connection", { settings }, (setting) => {
  test("the greeting has a socket id and the activity timeout", async () => {
    const client = await setting.connect();
    assert.match(client.connection.socket_id, /^\d+\.\d+$/);
    assert.equal(client.connection.activityTimeout, 1_000);
  });

  test("an unknown key is refused for good with 4001", async () => {
    const client = setting.open({ key: "nobody" });
    const errors = hear(client.connection, "error");
    const disconnected = hear(client.connection, "disconnected");

    const { error } = await errors.next();
    assert.equal(error.data.code, 4001);
    assert.ok(error.data.message);
    await disconnected.next();
    assert.ok(!client.connection.retryTimer, "it does not try again");
  });

  test("a client that disconnects may connect again", async () => {
    const client = await setting.connect();
    const first = client.connection.socket_id;
    client.disconnect();
    client.connect();
    await hear(client.connection, "connected").next();
    assert.notEqual(client.connection.socket_id, first);
  });

  test("a client that says nothing but pings stays connected", async () => {
    const client = await setting.connect();
    const states = hear(client.connection, "state_change");
    const heard = hearAll(await subscribe(client, "seldom"));

    await sleep(SEVERAL_TIMEOUTS_MS);
    await setting.publisher.trigger("seldom", "late", "but here");
    assert.deepEqual(await heard.next(), ["late", "but here"]);
    assert.equal(states.count, 0);
  });

  test("a client that only receives stays connected", () => onlyReceive(setting));

  test("a restart closes with 4200, and clients come back with their channels", async () => {
    const client = await setting.connect({ member: { user_id: "ann" } });
    const names = ["news", "private-news", "presence-news"];
    const channels = await Promise.all(names.map((name) => subscribe(client, name)));
    const subscribed = channels.map((channel) => hear(channel, "pusher:subscription_succeeded"));
    const before = client.connection.socket_id;
    const errors = hear(client.connection, "error");
    const connected = hear(client.connection, "connected");

    await setting.server.stop();
    assert.equal((await errors.next()).data.code, 4200);
    await setting.server.start();
    await connected.next(RECONNECT_MS_MAX);
    assert.notEqual(client.connection.socket_id, before);
    await Promise.all(subscribed.map((heard) => heard.next()));

    const heard = channels.map((channel) => hearAll(channel));
    await setting.publisher.trigger(names, "again", "here");
    for (const channel of heard) assert.deepEqual(await channel.next(), ["again", "here"]);
  });
});

const probing = { settings: { ...settings, liveness_probe: "pusher" } };
describeServer("a server that probes with pusher:ping", probing, (setting) => {
  test("is answered by a client that only receives", () => onlyReceive(setting));
});
