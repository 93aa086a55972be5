// What a subscriber with deltas makes of its texts, written from the specification (extensions
// spec 3.2) around the decoders that clients use.

import assert from "node:assert/strict";

import { decode } from "@ably/vcdiff-decoder";
import { applyDelta } from "fossil-delta";

const APPLY = {
  fossil: (base, delta) => applyDelta(base, delta),
  xdelta3: (base, delta) => decode(delta, base),
};

/** Messages of one key that a client keeps. */
const BASES_MAX = 30;

/** The members that stand last in a full message of a stream. */
const SUFFIX = /,"__delta_seq":(\d+)(?:,"__conflation_key":("(?:[^"\\]|\\.)*"))?\}$/;

export class DeltaReader {
  /** How many texts came in which form. */
  counts = { plain: 0, full: 0, delta: 0 };
  /** Bytes of all texts as they came. */
  bytes = 0;
  #bases = new Map();

  /** The text that a subscriber without deltas got in the place of this one. */
  read(text) {
    this.bytes += Buffer.byteLength(text);
    const { event, data } = JSON.parse(text);
    if (event.endsWith(":delta")) return this.#delta(data);
    const suffix = SUFFIX.exec(text);
    if (!suffix) {
      this.counts.plain += 1;
      return text;
    }
    const [cut, seq, key] = suffix;
    this.counts.full += 1;
    const full = `${text.slice(0, -cut.length)}}`;
    this.#keep(key && JSON.parse(key), Number(seq), full);
    return full;
  }

  #delta({ event, delta, seq, base_index, algorithm, conflation_key }) {
    this.counts.delta += 1;
    const bases = this.#bases.get(conflation_key) ?? [];
    // Without keys a client has the last message only, and uses it whatever `base_index` says.
    const base = conflation_key === undefined ? bases.at(-1) : bases.find((b) => b.seq === base_index);
    assert.ok(base, `no base ${base_index}`);
    assert.equal(base.seq, base_index);
    const bytes = new Uint8Array(Buffer.from(delta, "base64"));
    const target = APPLY[algorithm](new TextEncoder().encode(base.text), bytes);
    const text = new TextDecoder().decode(target);
    assert.equal(JSON.parse(text).event, event);
    this.#keep(conflation_key, seq, text);
    return text;
  }

  #keep(key, seq, text) {
    const bases = this.#bases.get(key) ?? [];
    const last = bases.at(-1);
    assert.ok(!last || seq > last.seq, `${seq} behind ${last?.seq}`);
    bases.push({ seq, text });
    this.#bases.set(key, bases.slice(-BASES_MAX));
  }
}
