// What the `pusher` library for Node asks is answered as Pusher documents it, and is exact as soon
// as a client has been told that it is subscribed; what the server refuses the library throws.

import assert from "node:assert/strict";
import { test } from "node:test";

import { hear } from "../harness/heard.js";
import { describeOnShards, subscribe } from "../harness/setting.js";

describeOnShards("queries", {}, (setting) => {
  async function get(path, params) {
    const answer = await setting.publisher.get({ path, params });
    return answer.json();
  }

  const member = async (name, user_id) => {
    const client = await setting.connect({ member: { user_id } });
    await subscribe(client, name);
    return client;
  };

  test("channels are listed by prefix, with counts where they were asked for", async () => {
    assert.deepEqual(await get("/channels"), { channels: {} });
    const client = await setting.connect();
    await subscribe(client, "public-room");
    await subscribe(client, "private-room");
    await member("presence-room", "ann");
    await member("presence-room", "ann");
    await member("presence-room", "bob");

    assert.deepEqual(await get("/channels"), {
      channels: { "public-room": {}, "private-room": {}, "presence-room": {} },
    });
    assert.deepEqual(await get("/channels", { filter_by_prefix: "p", info: "subscription_count" }), {
      channels: {
        "public-room": { subscription_count: 1 },
        "private-room": { subscription_count: 1 },
        "presence-room": { subscription_count: 3 },
      },
    });
    assert.deepEqual(await get("/channels", { filter_by_prefix: "presence-", info: "user_count" }), {
      channels: { "presence-room": { user_count: 2 } },
    });
  });

  test("a channel says whether it is occupied, and what was asked for", async () => {
    await member("presence-one", "ann");
    const tab = await member("presence-one", "ann");
    const info = "user_count,subscription_count";
    assert.deepEqual(await get("/channels/presence-one", { info }), {
      occupied: true,
      user_count: 1,
      subscription_count: 2,
    });
    assert.deepEqual(await get("/channels/nobody"), { occupied: false });

    // A pong stands for what was sent before the ping.
    tab.unsubscribe("presence-one");
    const pong = hear(tab.connection, "message");
    tab.send_event("pusher:ping", {});
    while ((await pong.next()).event !== "pusher:pong");
    assert.deepEqual(await get("/channels/presence-one", { info: "subscription_count" }), {
      occupied: true,
      subscription_count: 1,
    });
  });

  test("a cached event is shown with its time to live", async () => {
    const info = "cache,subscription_count";
    assert.deepEqual(await get("/channels/cache-kept", { info }), {
      occupied: false,
      subscription_count: 0,
      cache: null,
    });
    await setting.publisher.trigger("cache-kept", "event", { text: "Grüße ☃" });
    const { cache } = await get("/channels/cache-kept", { info });
    assert.deepEqual(JSON.parse(cache.data), { text: "Grüße ☃" });
    assert.ok(Number.isInteger(cache.ttl) && cache.ttl <= 1800 && cache.ttl > 1700);
  });

  test("the users of a presence channel are told once each", async () => {
    for (const user of ["ann", "bob", "ann"]) await member("presence-users", user);
    assert.deepEqual(await get("/channels/presence-users/users"), {
      users: [{ id: "ann" }, { id: "bob" }],
    });
    assert.deepEqual(await get("/channels/presence-nobody/users"), { users: [] });
  });

  const REFUSALS = [
    ["/channels", { info: "user_count" }, /filter_by_prefix/],
    ["/channels", { info: "nonsense" }, /info/],
    ["/channels/public-room", { info: "user_count" }, /presence/],
    ["/channels/public-room", { info: "cache" }, /cache channel/],
    ["/channels/public-room/users", {}, /presence/],
  ];

  for (const [path, params, text] of REFUSALS) {
    test(`${path} refuses ${JSON.stringify(params)}`, async () => {
      const error = await setting.publisher.get({ path, params }).then(
        () => assert.fail("it was answered"),
        (error) => error,
      );
      assert.equal(error.status, 400);
      assert.match(JSON.parse(error.body).error, text);
    });
  }
});

describeOnShards("budgets", { settings: { publish_requests_max: 5 } }, (setting) => {
  test("a used up budget is an error with the status 429", async () => {
    for (let left = 4; left >= 0; left--) {
      const answer = await setting.publisher.trigger("budget", "event", "");
      assert.equal(answer.headers.get("x-ratelimit-remaining"), String(left));
    }
    const error = await setting.publisher.trigger("budget", "event", "").then(
      () => assert.fail("it was accepted"),
      (error) => error,
    );
    assert.equal(error.status, 429);
    assert.equal(JSON.parse(error.body).code, "rate_limited");
    assert.equal((await setting.publisher.get({ path: "/channels" })).status, 200);
  });
});
