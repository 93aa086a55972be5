// Who is there, who comes and who goes, as pusher-js tells it.

import assert from "node:assert/strict";
import { test } from "node:test";

import { hear } from "../harness/heard.js";
import { describeOnShards, subscribe } from "../harness/setting.js";

const ann = { user_id: "ann", user_info: { name: "Ann" } };
const bob = { user_id: "bob", user_info: { name: "Bob", age: 40 } };

function ids(channel) {
  return Object.keys(channel.members.members).sort();
}

describeOnShards("presence", {}, (setting) => {
  for (const name of ["presence-hall", "presence-cache-hall"]) {
    test(`${name} tells members, joins and leaves`, async () => {
      const first = await setting.connect({ member: ann });
      const hall = await subscribe(first, name);
      assert.deepEqual(hall.members.me, { id: "ann", info: { name: "Ann" } });
      assert.equal(hall.members.count, 1);
      const added = hear(hall, "pusher:member_added");
      const removed = hear(hall, "pusher:member_removed");

      const second = await setting.connect({ member: bob });
      const same = await subscribe(second, name);
      assert.deepEqual(await added.next(), { id: "bob", info: { name: "Bob", age: 40 } });
      assert.deepEqual(same.members.me, { id: "bob", info: { name: "Bob", age: 40 } });
      for (const channel of [hall, same]) {
        assert.deepEqual(ids(channel), ["ann", "bob"]);
        assert.equal(channel.members.count, 2);
      }

      second.unsubscribe(name);
      assert.equal((await removed.next()).id, "bob");
      assert.equal(hall.members.count, 1);

      await subscribe(second, name);
      assert.equal((await added.next()).id, "bob");
      second.disconnect();
      assert.equal((await removed.next()).id, "bob");
      assert.deepEqual(ids(hall), ["ann"]);
    });
  }

  test("a user with several connections joins once and leaves with the last", async () => {
    const hall = await subscribe(await setting.connect({ member: ann }), "presence-several");
    const changes = [];
    hall.bind("pusher:member_added", ({ id }) => changes.push(`+${id}`));
    hall.bind("pusher:member_removed", ({ id }) => changes.push(`-${id}`));

    const bobs = [];
    for (let i = 0; i < 3; i++) {
      bobs.push(await setting.connect({ member: bob }));
      const channel = await subscribe(bobs[i], "presence-several");
      assert.equal(channel.members.count, 2);
    }
    const carol = await setting.connect({ member: { user_id: "carol" } });
    const removed = hear(hall, "pusher:member_removed");
    for (const client of bobs) client.disconnect();
    await removed.next();
    await subscribe(carol, "presence-several");
    carol.disconnect();
    await removed.next();
    assert.deepEqual(changes, ["+bob", "-bob", "+carol", "-carol"]);
  });

  test("a numeric id becomes a string, absent information an empty object", async () => {
    const hall = await subscribe(await setting.connect({ member: ann }), "presence-odd");
    const added = hear(hall, "pusher:member_added");
    const channel = await subscribe(
      await setting.connect({ member: { user_id: 10 } }),
      "presence-odd",
    );
    assert.deepEqual(await added.next(), { id: "10", info: {} });
    assert.deepEqual(channel.members.me, { id: 10, info: {} });
    assert.deepEqual(ids(channel), ["10", "ann"]);
  });

  test("many come at once, and everybody knows everybody", async () => {
    const names = Array.from({ length: 20 }, (_, i) => `user-${i}`);
    const channels = await Promise.all(
      names.map(async (user_id) => {
        const client = await setting.connect({ member: { user_id } });
        const channel = client.subscribe("presence-many");
        await new Promise((resolve) => {
          const look = () => channel.members.count === names.length && resolve();
          channel.bind("pusher:subscription_succeeded", look);
          channel.bind("pusher:member_added", look);
        });
        return channel;
      }),
    );
    for (const channel of channels) assert.deepEqual(ids(channel), [...names].sort());
  });

  test("a member without an id is refused", async () => {
    const client = await setting.connect({ member: { user_info: { name: "Nobody" } } });
    const refusal = await hear(client.subscribe("presence-x"), "pusher:subscription_error").next();
    assert.equal(refusal.type, "InvalidData");
    assert.equal(refusal.status, 400);
  });
});
