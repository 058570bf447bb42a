import assert from "node:assert/strict";
import { test } from "node:test";

import { Capture } from "../../webui_patch/capture.js";
import { designFilter, Resampler, toPcm16 } from "../../webui_patch/dsp.js";
import { chance } from "./random.mjs";

function noise(count, seed = 1) {
  const random = chance(seed);
  return Float32Array.from({ length: count }, () => random() - 0.5);
}

function capture(rate) {
  const frames = [];
  const made = new Capture(rate, (frame) => frames.push(frame));
  return { made, frames, samples: () => frames.flatMap(({ pcm }) => [...new Int16Array(pcm)]) };
}

/** Push in render quanta. */
function pushAll(made, samples) {
  for (let at = 0; at < samples.length; at += 128) {
    made.push(samples.subarray(at, at + 128));
  }
}

const expected = (samples, from, to) => [...toPcm16(new Resampler(from, to).process(samples))];

for (const [from, to] of [[44100, 16000], [48000, 16000], [48000, 24000], [96000, 16000]]) {
  test(`${from} to ${to} Hz: what is held comes first, and nothing is lost or doubled`, () => {
    const { made, frames, samples } = capture(from);
    const input = noise(from * 3);
    pushAll(made, input.subarray(0, from));
    assert.equal(frames.length, 0);
    made.start(to, designFilter(from, to));
    pushAll(made, input.subarray(from));
    const wanted = expected(input, from, to);
    const whole = samples();
    assert.ok(wanted.length - whole.length < to * 0.02);
    assert.deepEqual(whole, wanted.slice(0, whole.length));
    assert.ok(frames.every(({ pcm, seconds }) => pcm.byteLength === to * 0.04 && seconds === 0.02));
    assert.equal(frames.length, 149 + (wanted.length === whole.length));
    assert.deepEqual(made.stats, { captured: 3 * to, delivered: whole.length, lost: 0 });
  });
}

test("what is held is worked off in portions", () => {
  const { made, frames } = capture(48000);
  pushAll(made, noise(48000 * 10));
  made.start(16000, designFilter(48000, 16000));
  made.push(noise(128));
  assert.ok(frames.length <= 2);
  pushAll(made, noise(48000));
  assert.ok(frames.length >= 540);
});

test("more than 30 s are not held, and what goes is counted", () => {
  const { made, frames } = capture(8000);
  pushAll(made, noise(8000 * 31));
  assert.ok(made.stats.lost >= 8000 && made.stats.lost < 8000 + 4096);
  const { lost } = made.stats;
  made.start(8000, designFilter(8000, 8000));
  pushAll(made, noise(8000 * 5));
  const delivered = frames.reduce((sum, { pcm }) => sum + pcm.byteLength / 2, 0);
  assert.ok(8000 * 36 - lost - delivered < 160);
});

test("a flush brings out all that was captured, and the stream goes on unharmed", () => {
  const { made, frames, samples } = capture(48000);
  made.start(16000, designFilter(48000, 16000));
  const input = noise(48000);
  pushAll(made, input.subarray(0, 20100));
  made.flush();
  assert.ok(made.flushing);
  let at = 20100;
  for (; made.flushing; at += 128) made.push(input.subarray(at, at + 128));
  assert.ok(at - 20100 < 400, "it takes the filter's delay only");
  // All of the first 20100, as late as the filter is.
  assert.equal(samples().length, Math.ceil(20100 / 3) + new Resampler(48000, 16000).delay);
  assert.ok(frames[frames.length - 1].pcm.byteLength < 640);
  pushAll(made, input.subarray(at));
  assert.deepEqual(samples(), expected(input, 48000, 16000).slice(0, samples().length));
});

test("another rate: the first one ends whole, the second begins where it ended", () => {
  const { made, frames } = capture(48000);
  made.start(16000, designFilter(48000, 16000));
  pushAll(made, noise(10000));
  made.start(24000, designFilter(48000, 24000));
  const first = frames.reduce((sum, { pcm }) => sum + pcm.byteLength / 2, 0);
  const { delay } = new Resampler(48000, 16000);
  assert.equal(first, Math.ceil(10000 / 3) + delay);
  pushAll(made, noise(10000));
  assert.equal(frames[frames.length - 1].pcm.byteLength, 960);
  assert.equal(made.stats.captured, 10000);
});

test("what the browser skipped is counted", () => {
  const { made } = capture(48000);
  made.start(16000, designFilter(48000, 16000));
  made.missed(384);
  assert.equal(made.stats.lost, 128);
});
