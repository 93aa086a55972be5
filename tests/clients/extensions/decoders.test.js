// The decoders that clients use, fed with deltas of the server's encoder: `fossil-delta` and
// `@ably/vcdiff-decoder` against the pairs that tests/deltas/corpus.rs prints.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";

import { decode } from "@ably/vcdiff-decoder";
import { applyDelta } from "fossil-delta";

const bytes = (base64) => new Uint8Array(Buffer.from(base64, "base64"));

const APPLY = {
  fossil: (base, delta) => applyDelta(base, delta),
  xdelta3: (base, delta) => decode(delta, base),
};

const corpus = execFileSync(process.env.TESTED_CORPUS, { maxBuffer: 1 << 28 });
const pairs = corpus.toString().trimEnd().split("\n").map((line) => JSON.parse(line));

for (const [algorithm, apply] of Object.entries(APPLY)) {
  test(`${algorithm}: every delta gives its target`, () => {
    assert.equal(pairs.length, 2_000);
    let saved = 0;
    for (const pair of pairs) {
      const [base, target, delta] = [pair.base, pair.target, pair[algorithm]].map(bytes);
      assert.deepEqual(Buffer.from(apply(base, delta)), Buffer.from(target));
      saved += target.length - delta.length;
    }
    assert.ok(saved > 0);
  });
}
