// The real binary, on a port that the kernel chooses, with one app.
//
// Does not know what a client is. Every process started here is ended by `stop`, or at the latest
// when this process ends; one that ends otherwise than with status 0 fails the test that stops it.

import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

export const CLIENTS = join(dirname(fileURLToPath(import.meta.url)), "..");

/** Configurations, logs and the screenshot; not in the repository. */
export const WORK = join(CLIENTS, "../.work");

const BINARY = process.env.TESTED_BINARY ?? join(CLIENTS, "../../target/simulation/shardcast");

/** From SIGTERM to the end: the grace period of these tests is 0, the server adds 1 s. */
const STOP_MS_MAX = 5_000;

const running = new Set();
process.on("exit", () => running.forEach((child) => child.kill("SIGKILL")));

export class Server {
  static #count = 0;

  app = { id: "4711", key: "a-key", secret: "a-secret" };
  host = "127.0.0.1";
  port = 0;
  #name = `server-${process.pid}-${Server.#count++}`;
  #settings;
  #webhooks;
  #process;

  /** `settings` are options of the configuration file, `webhooks` the app's endpoints in it. */
  constructor({ shards = 1, settings = {}, webhooks = [] } = {}) {
    this.#webhooks = webhooks;
    this.#settings = { shards, shutdown_grace_secs: 0, client_events: true, ...settings };
  }

  /** Resolves when the server listens; a second start listens on the port of the first. */
  async start() {
    mkdirSync(WORK, { recursive: true });
    const config = join(WORK, `${this.#name}.toml`);
    writeFileSync(config, this.#config());

    const log = openSync(join(WORK, `${this.#name}.log`), "a");
    const listen = ["--host", this.host, "--port", String(this.port), "--metrics-port", "0"];
    const flags = ["--config", config, ...listen];
    const child = spawn(BINARY, flags, { stdio: ["ignore", "pipe", log] });
    closeSync(log);

    running.add(child);
    const ended = new Promise((resolve) => {
      child.once("error", (error) => resolve(error.message));
      child.once("exit", (status, signal) => resolve(signal ?? status));
    }).finally(() => running.delete(child));
    this.#process = { child, ended };
    this.port = await this.#announcedPort();
  }

  /** Ends it by SIGTERM, as a service manager does; fails if it does not end well. */
  async stop() {
    if (!this.#process) return;
    const { child, ended } = this.#process;
    this.#process = undefined;
    child.kill("SIGTERM");
    const late = sleep(STOP_MS_MAX, "not within the time it has", { ref: false });
    const end = await Promise.race([ended, late]);
    child.kill("SIGKILL");
    if (end !== 0) throw new Error(`${this.#name} ended: ${end}; see its log in ${WORK}`);
  }

  #config() {
    const lines = (table) =>
      Object.entries(table).map(([key, value]) => `${key} = ${JSON.stringify(value)}`);
    const endpoints = this.#webhooks.flatMap((table) => ["[[apps.webhooks]]", ...lines(table)]);
    const app = ["[[apps]]", ...lines(this.app), ...endpoints];
    return [...lines(this.#settings), ...app, ""].join("\n");
  }

  async #announcedPort() {
    const { child, ended } = this.#process;
    for await (const line of createInterface(child.stdout)) {
      const [, port] = /listens on 127\.0\.0\.1:(\d+)/.exec(line) ?? [];
      if (port) return Number(port);
    }
    throw new Error(`${this.#name} did not start: ${await ended}; see its log in ${WORK}`);
  }
}
