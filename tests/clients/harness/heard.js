// What a client was told, in order.
//
// Tests show that something was *not* heard by publishing a last event and finding nothing before
// it, never by waiting for a while.

import { setTimeout as sleep } from "node:timers/promises";

/** Far longer than the server takes for anything; a failing test waits for it. */
const WAIT_MS_MAX = 10_000;

/**
 * After 4200 pusher-js tries again at once, and if nobody listens then, once more after 15 s: a
 * failed attempt does not end before its own timeout.
 */
export const RECONNECT_MS_MAX = 20_000;

export class Heard {
  #entries = [];
  #waiting = [];
  #what;

  constructor(what) {
    this.#what = what;
  }

  /** May be given away as a callback. */
  push = (entry) => {
    const waiting = this.#waiting.shift();
    if (waiting) waiting(entry);
    else this.#entries.push(entry);
  };

  /** Entries that were not read. */
  get count() {
    return this.#entries.length;
  }

  /** The next entry, which counts as read. */
  async next(ms = WAIT_MS_MAX) {
    if (this.#entries.length > 0) return this.#entries.shift();
    const timeout = new AbortController();
    const entry = new Promise((resolve) => this.#waiting.push(resolve));
    const late = sleep(ms, undefined, { signal: timeout.signal }).then(() => {
      throw new Error(`nothing heard of ${this.#what} for ${ms} ms`);
    });
    try {
      return await Promise.race([entry, late]);
    } finally {
      timeout.abort();
      late.catch(() => {});
    }
  }

  async take(count) {
    const entries = [];
    while (entries.length < count) entries.push(await this.next());
    return entries;
  }
}

/** The data of one event of a pusher-js emitter from now on. */
export function hear(emitter, event) {
  const heard = new Heard(event);
  emitter.bind(event, heard.push);
  return heard;
}

/** `[event, data]` of every event of a channel from now on, those of the protocol apart. */
export function hearAll(channel) {
  const heard = new Heard(channel.name);
  channel.bind_global((event, data) => {
    if (!event.startsWith("pusher:")) heard.push([event, data]);
  });
  return heard;
}
