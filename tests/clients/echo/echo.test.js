// Laravel Echo as its documentation uses it, once as its `reverb` and once as its `pusher`
// broadcaster: what a Laravel application needs from the server.

import assert from "node:assert/strict";
import { test } from "node:test";

import Echo from "laravel-echo";
import Pusher from "pusher-js";

import { Heard } from "../harness/heard.js";
import { describeOnShards } from "../harness/setting.js";

const NOTIFICATION = "Illuminate\\Notifications\\Events\\BroadcastNotificationCreated";

/** Calls `bind` with a callback; the result has what the callback was given. */
function heardBy(bind) {
  const heard = new Heard("Echo");
  bind(heard.push);
  return heard;
}

function subscribed(channel) {
  return heardBy((callback) => channel.subscribed(callback)).next();
}

for (const broadcaster of ["reverb", "pusher"]) {
  describeOnShards(`echo as ${broadcaster}`, {}, (setting) => {
    /** Channels of their own, so that no test hears another. */
    let count = 0;
    const unique = (name) => `${name}.${count++}`;

    function open(member) {
      const { channelAuthorization, ...options } = setting.clientOptions();
      const echo = new Echo({
        ...options,
        broadcaster,
        Pusher,
        key: setting.server.app.key,
        authEndpoint: channelAuthorization.endpoint,
        auth: { params: { member: JSON.stringify(member) } },
      });
      return setting.keep(echo);
    }

    const KINDS = [
      ["", (echo, name) => echo.channel(name)],
      ["private-", (echo, name) => echo.private(name)],
      ["private-encrypted-", (echo, name) => echo.encryptedPrivate(name)],
      ["presence-", (echo, name) => echo.join(name)],
    ];

    for (const [prefix, join] of KINDS) {
      test(`a channel ${prefix}orders hears the events it listens for`, async () => {
        const name = unique("orders");
        const channel = join(open({ user_id: 1, user_info: { id: 1 } }), name);
        const shipped = heardBy((callback) => channel.listen("OrderShipped", callback));
        const named = heardBy((callback) => channel.listen(".order.paid", callback));
        await subscribed(channel);

        const order = { order: { id: 7, total: 12.5 } };
        const { publisher } = setting;
        await publisher.trigger(prefix + name, "App\\Events\\OrderLost", {});
        await publisher.trigger(prefix + name, "App\\Events\\OrderShipped", order);
        await publisher.trigger(prefix + name, "order.paid", { paid: true });
        assert.deepEqual(await shipped.next(), order);
        assert.deepEqual(await named.next(), { paid: true });
      });
    }

    test("notifications of a user arrive", async () => {
      const name = unique("App.Models.User");
      const channel = open().private(name);
      const heard = heardBy((callback) => channel.notification(callback));
      await subscribed(channel);
      await setting.publisher.trigger(`private-${name}`, NOTIFICATION, { type: "Paid" });
      assert.deepEqual(await heard.next(), { type: "Paid" });
    });

    test("a presence channel tells who is here, who joins and who leaves", async () => {
      const name = unique("hall");
      const hall = open({ user_id: 1, user_info: { id: 1, name: "Ann" } }).join(name);
      const here = heardBy((callback) => hall.here(callback));
      const joining = heardBy((callback) => hall.joining(callback));
      const leaving = heardBy((callback) => hall.leaving(callback));
      assert.deepEqual(await here.next(), [{ id: 1, name: "Ann" }]);

      const other = open({ user_id: 2, user_info: { id: 2, name: "Bob" } });
      const both = await heardBy((callback) => other.join(name).here(callback)).next();
      assert.deepEqual(both, [
        { id: 1, name: "Ann" },
        { id: 2, name: "Bob" },
      ]);
      assert.deepEqual(await joining.next(), { id: 2, name: "Bob" });
      other.leave(name);
      assert.deepEqual(await leaving.next(), { id: 2, name: "Bob" });
    });

    for (const kind of ["private", "join"]) {
      test(`a whisper on a channel of ${kind} reaches the others`, async () => {
        const name = unique("chat");
        const open1 = open({ user_id: 1 })[kind](name);
        const open2 = open({ user_id: 2 })[kind](name);
        const own = heardBy((callback) => open1.listenForWhisper("typing", callback));
        const heard = heardBy((callback) => open2.listenForWhisper("typing", callback));
        await Promise.all([subscribed(open1), subscribed(open2)]);

        open1.whisper("typing", { name: "Ann" });
        assert.deepEqual(await heard.next(), { name: "Ann" });
        open2.whisper("typing", { name: "Bob" });
        assert.deepEqual(await own.next(), { name: "Bob" });
      });
    }

    test("an event to others spares the one whose socket id is given", async () => {
      const name = unique("board");
      const echoes = [open(), open()];
      const channels = echoes.map((echo) => echo.channel(name));
      const heard = channels.map((channel) =>
        heardBy((callback) => channel.listenToAll((event, data) => callback([event, data]))),
      );
      await Promise.all(channels.map(subscribed));

      const socket_id = echoes[0].socketId();
      await setting.publisher.trigger(name, "App\\Events\\Moved", { x: 1 }, { socket_id });
      await setting.publisher.trigger(name, "App\\Events\\Moved", { x: 2 });
      assert.deepEqual(await heard[0].next(), ["Moved", { x: 2 }]);
      assert.deepEqual(await heard[1].next(), ["Moved", { x: 1 }]);
    });

    test("a refusal reaches the error callback, whoever refuses", async () => {
      const echo = open();
      const local = heardBy((callback) => echo.private("forbidden").error(callback));
      assert.equal((await local.next()).status, 403);
      const remote = heardBy((callback) => echo.private("forged").error(callback));
      assert.equal((await remote.next()).status, 401);
      assert.equal(echo.connectionStatus(), "connected");
    });

    test("a channel that was left is not heard", async () => {
      const name = unique("left");
      const echo = open();
      const first = echo.channel(name);
      const heard = heardBy((callback) => first.listen(".event", callback));
      await subscribed(first);
      echo.leave(name);

      const again = echo.channel(name);
      const later = heardBy((callback) => again.listen(".event", callback));
      await subscribed(again);
      await setting.publisher.trigger(name, "event", 1);
      assert.equal(await later.next(), 1);
      assert.equal(heard.count, 0);
    });
  });
}
