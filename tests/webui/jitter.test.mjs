import assert from "node:assert/strict";
import { test } from "node:test";

import { JitterTarget } from "../../webui_patch/jitter.js";

test("it begins small", () => {
  assert.equal(new JitterTarget().seconds, 0.07);
});

test("a gap raises it to what would have bridged it, up to a cap", () => {
  const target = new JitterTarget();
  target.underrun(0.05);
  assert.ok(target.seconds >= 0.12 && target.seconds < 0.15);
  target.underrun(0.9);
  assert.equal(target.seconds, 0.4);
});

test("it is what playback began with that was too little, not what the target has become", () => {
  const target = new JitterTarget();
  target.underrun(0.2);
  target.begin();
  target.played(1000);
  target.underrun(0.01);
  assert.ok(target.seconds > 0.29 && target.seconds < 0.33, `${target.seconds}`);
});

test("a pause of whoever speaks is no jitter", () => {
  const target = new JitterTarget();
  target.underrun(3);
  assert.equal(target.seconds, 0.07);
});

test("it falls slowly, and not below where it began", () => {
  const target = new JitterTarget();
  target.underrun(0.9);
  target.played(10);
  assert.ok(target.seconds > 0.3 && target.seconds < 0.4);
  target.played(1000);
  assert.equal(target.seconds, 0.07);
});
