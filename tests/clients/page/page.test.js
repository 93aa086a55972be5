// A page with stock pusher-js in Chromium receives what the stock Node and Python libraries publish,
// on channels of every type; it sees members come and go, exchanges client events with a client in
// Node, and comes back after a restart of the server.
//
// The tests of one page build on each other: they are its life from its opening to its end. The
// last look is kept as a screenshot.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";

import { chromium } from "playwright-core";

import { hear, RECONNECT_MS_MAX } from "../harness/heard.js";
import { CLIENTS, WORK } from "../harness/server.js";
import { describeOnShards, ENCRYPTION_KEY, subscribe } from "../harness/setting.js";

const BROWSER = process.env.CHROMIUM ?? "/usr/bin/chromium";
const PYTHON = join(WORK, "venv/bin/python");
const PUSHER_JS = dirname(createRequire(import.meta.url).resolve("pusher-js/package.json"));

const BROWSER_FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--no-proxy-server",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

const FILES = {
  "/": join(CLIENTS, "page/index.html"),
  "/page.css": join(CLIENTS, "page/page.css"),
  "/page.js": join(CLIENTS, "page/page.js"),
  "/pusher.js": join(PUSHER_JS, "dist/web/pusher-with-encryption.js"),
};

const PLAIN = ["news", "private-news", "presence-hall", "private-encrypted-news"];
const CACHED = [
  "cache-news",
  "private-cache-news",
  "presence-cache-hall",
  "private-encrypted-cache-news",
];

const WAIT_MS_MAX = 10_000;

describeOnShards("page in Chromium", { files: FILES }, (setting) => {
  let profile, browser, page, python, friend, hall;

  before(async () => {
    await setting.publisher.trigger("cache-news", "before the page", { from: "Node" });
    profile = await mkdtemp(join(tmpdir(), "shardcast-page-"));
    browser = await chromium.launchPersistentContext(profile, {
      executablePath: BROWSER,
      headless: true,
      args: BROWSER_FLAGS,
      viewport: { width: 1280, height: 1000 },
    });
    browser.setDefaultTimeout(WAIT_MS_MAX);
    page = await browser.newPage();
    const { port, app } = setting.server;
    await page.goto(`${setting.site.url}/?port=${port}&key=${app.key}&name=Page`);
    const credentials = [app.id, app.key, app.secret, ENCRYPTION_KEY];
    python = spawn(PYTHON, [join(CLIENTS, "python/publish.py"), String(port), ...credentials], {
      stdio: ["pipe", "ignore", "inherit"],
    });
  });

  after(async () => {
    python?.stdin.end();
    await browser?.close();
    if (profile) await rm(profile, { recursive: true, force: true });
  });

  const panel = (channel) => page.locator(`section[data-channel="${channel}"]`);

  async function sees(channel, text) {
    await panel(channel).getByText(text, { exact: true }).first().waitFor();
  }

  function publishFromPython(channel, event, data) {
    python.stdin.write(`${JSON.stringify([channel, event, data])}\n`);
  }

  test("it connects and is subscribed to channels of every type", async () => {
    await page.locator("#state.connected").waitFor();
    assert.match(await page.locator("#socket-id").textContent(), /^\d+\.\d+$/);
    for (const channel of [...PLAIN, ...CACHED]) await sees(channel, "subscribed");
  });

  test("what was cached before it came is there, and what was not is missed", async () => {
    await sees("cache-news", "before the page");
    await sees("private-cache-news", "cache miss");
  });

  test("it is told of refusals by the application and by the server", async () => {
    await sees("private-forbidden", "AuthError, status 403");
    await sees("private-forged", "AuthError, status 401");
    assert.match(await page.locator("#error").textContent(), /^4009: /);
  });

  for (const channel of [...PLAIN, ...CACHED]) {
    test(`${channel} shows what Node and Python publish`, async () => {
      await setting.publisher.trigger(channel, "price", { from: "Node", eur: 1.5 });
      publishFromPython(channel, "price", { from: "Python", text: "Grüße ☃" });
      await sees(channel, '{"from":"Node","eur":1.5}');
      await sees(channel, '{"from":"Python","text":"Grüße ☃"}');
    });
  }

  test("it sees who joins", async () => {
    friend = await setting.connect({ member: { user_id: "ann", user_info: { name: "Ann" } } });
    hall = await subscribe(friend, "presence-hall");
    assert.deepEqual(hall.members.get("page"), { id: "page", info: { name: "Page" } });
    await page.getByText("Ann, Page", { exact: true }).waitFor();
  });

  test("client events go both ways", async () => {
    const waved = hear(hall, "client-wave");
    await page.locator("#wave").click();
    assert.deepEqual(await waved.next(), { from: "Page" });
    hall.trigger("client-wave", { from: "Ann" });
    await sees("presence-hall", '{"from":"Ann"}');
  });

  test("it is spared where its socket id is excluded", async () => {
    const socket_id = await page.locator("#socket-id").textContent();
    await setting.publisher.trigger("news", "excluded", "not seen", { socket_id });
    await setting.publisher.trigger("news", "last", "seen");
    await sees("news", "last");
    assert.equal(await panel("news").getByText("excluded", { exact: true }).count(), 0);
    await page.screenshot({ path: join(WORK, "page.png"), fullPage: true });
  });

  test("it sees who leaves", async () => {
    friend.disconnect();
    await page.locator("#members").getByText("Page", { exact: true }).waitFor();
  });

  test("it comes back after a restart of the server", async () => {
    await setting.server.stop();
    await page.locator("#state:not(.connected)").waitFor();
    await setting.server.start();
    await page.locator("#state.connected").waitFor({ timeout: RECONNECT_MS_MAX });
    await page.locator("#state.connected").waitFor();
    for (const channel of PLAIN) await sees(channel, "subscribed");
    await setting.publisher.trigger("news", "after the restart", "seen");
    await sees("news", "after the restart");
  });
});
