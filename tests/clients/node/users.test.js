// Users: pusher-js signs in with what the library for Node has signed, and hears of its user and of
// those whom it watches.

import assert from "node:assert/strict";
import { test } from "node:test";

import { hear, hearAll } from "../harness/heard.js";
import { describeOnShards, subscribe } from "../harness/setting.js";

const TERMINATED = 4009;

describeOnShards("users", { settings: { watchlist: true } }, (setting) => {
  /** A client that is signed in as this user. */
  async function signedIn(user, options) {
    const client = await setting.connect({ user, ...options });
    await signIn(client);
    return client;
  }

  async function signIn(client) {
    client.signin();
    await client.user.signinDonePromise;
  }

  test("a user is who signed in, and hears what is sent to it, everywhere", async () => {
    const user = { id: "ann", user_info: { name: "Ann ☃" } };
    const clients = [await signedIn(user), await signedIn(user)];
    const heard = clients.map((client) => hear(client.user, "greet"));
    const other = await signedIn({ id: "bob" });
    const wrong = hear(other.user, "greet");
    for (const client of clients) assert.deepEqual(client.user.user_data, user);

    for (let n = 0; n < 20; n++) await setting.publisher.sendToUser("ann", "greet", { n });
    for (const events of heard) {
      for (let n = 0; n < 20; n++) assert.deepEqual(await events.next(), { n });
    }
    const last = hear(other.user, "last");
    await setting.publisher.sendToUser("bob", "last", "one");
    assert.equal(await last.next(), "one");
    assert.equal(wrong.count, 0);
  });

  test("a client that signs in before it is connected is signed in afterwards, and again", async () => {
    const client = setting.open({ user: { id: "early" } });
    const heard = hear(client.user, "greet");
    await signIn(client);
    await setting.publisher.sendToUser("early", "greet", 1);
    assert.equal(await heard.next(), 1);

    // The sign-in ended with the connection; the library signs in anew.
    const signedInAgain = hear(client.connection, "message");
    client.disconnect();
    client.connect();
    while ((await signedInAgain.next()).event !== "pusher:signin_success");
    await setting.publisher.sendToUser("early", "greet", 2);
    assert.equal(await heard.next(), 2);
  });

  test("a sign-in that is signed for somebody else is an error", async () => {
    const client = await setting.connect({ user: { id: "forged" } });
    const errors = hear(client.connection, "error");
    client.signin();
    assert.equal((await errors.next()).data.code, 4009);
    const heard = hearAll(await subscribe(client, "news"));
    await setting.publisher.trigger("news", "still", "here");
    assert.deepEqual(await heard.next(), ["still", "here"]);
  });

  test("the signed-in user is the member of a presence channel", async () => {
    const ann = await signedIn({ id: "ann", user_info: { name: "Ann" } });
    const channel = await subscribe(ann, "presence-signed-in");
    assert.deepEqual(channel.members.me, { id: "ann", info: { name: "Ann" } });
    const added = hear(channel, "pusher:member_added");
    const bob = await signedIn({ id: "bob" });
    await subscribe(bob, "presence-signed-in");
    assert.deepEqual(await added.next(), { id: "bob", info: {} });
  });

  test("a watchlist says who is online, who comes and who goes", async () => {
    const here = await signedIn({ id: "here" });
    const client = setting.open({ user: { id: "watcher", watchlist: ["here", "away"] } });
    const online = hear(client.user.watchlist, "online");
    const offline = hear(client.user.watchlist, "offline");
    await signIn(client);
    assert.deepEqual((await online.next()).user_ids, ["here"]);
    assert.deepEqual((await offline.next()).user_ids, ["away"]);

    const first = await signedIn({ id: "away" });
    assert.deepEqual((await online.next()).user_ids, ["away"]);
    const second = await signedIn({ id: "away" });
    first.disconnect();
    second.disconnect();
    assert.deepEqual((await offline.next()).user_ids, ["away"]);
    here.disconnect();
    assert.deepEqual((await offline.next()).user_ids, ["here"]);
    assert.equal(online.count, 0);
  });

  test("a terminated user is disconnected for good, and nobody else", async () => {
    const clients = [await signedIn({ id: "troll" }), await signedIn({ id: "troll" })];
    const bystander = await signedIn({ id: "bystander" });
    const states = clients.map((client) => hear(client.connection, "disconnected"));
    const errors = clients.map((client) => hear(client.connection, "error"));

    const answer = await setting.publisher.terminateUserConnections("troll");
    assert.deepEqual(await answer.json(), {});
    for (const error of errors) {
      const { data } = await error.next();
      assert.equal(data.code, TERMINATED);
    }
    for (const state of states) await state.next();
    for (const client of clients) assert.equal(client.connection.state, "disconnected");

    const heard = hear(bystander.user, "greet");
    await setting.publisher.sendToUser("bystander", "greet", "you");
    assert.equal(await heard.next(), "you");
    const nobody = await setting.publisher.terminateUserConnections("nobody");
    assert.deepEqual(await nobody.json(), {});
  });
});
