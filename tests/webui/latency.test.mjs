import assert from "node:assert/strict";
import { test } from "node:test";

import { TurnLatency } from "../../webui_patch/latency.js";

/** Feed `seconds` of frames at `level`, from `now` on; returns the time after them. */
function feed(latency, level, seconds, now) {
  for (const end = now + seconds - 1e-9; now < end; now += 0.02) latency.captured(level, 0.02, now);
  return now;
}

test("the wait begins where the voice stopped, not where the server noticed", () => {
  const latency = new TurnLatency();
  let now = feed(latency, 0.001, 1, 0);
  now = feed(latency, 0.1, 2, now);
  const silent = now;
  now = feed(latency, 0.001, 0.5, now);
  latency.turnEnded(now);
  const wait = latency.firstSound(now + 0.3);
  assert.ok(Math.abs(wait - (0.8 + 0.02)) < 1e-6, `${wait} after ${silent}`);
});

test("a fan is not a voice", () => {
  const latency = new TurnLatency();
  let now = feed(latency, 0.02, 5, 0);
  now = feed(latency, 0.3, 1, now);
  now = feed(latency, 0.02, 0.5, now);
  latency.turnEnded(now);
  assert.ok(Math.abs(latency.firstSound(now) - 0.52) < 1e-6);
});

test("without a voice, the server's word counts", () => {
  const latency = new TurnLatency();
  latency.turnEnded(7);
  assert.equal(latency.firstSound(8), 1);
});

test("a reply that nobody asked for has no wait, and a turn has one only", () => {
  const latency = new TurnLatency();
  assert.equal(latency.firstSound(3), null);
  latency.turnEnded(4);
  assert.equal(latency.firstSound(5), 1);
  assert.equal(latency.firstSound(6), null);
});
