import assert from "node:assert/strict";
import { test } from "node:test";

import {
  designFilter, fade, fromPcm16, levelOf, Resampler, toPcm16,
} from "../../webui_patch/dsp.js";
import { chance } from "./random.mjs";

const INPUTS = [44100, 48000, 88200, 96000, 192000];
const WANTED = [8000, 16000, 22050, 24000, 32000, 48000];
const PAIRS = [
  ...INPUTS.flatMap((from) => WANTED.map((to) => [from, to])),
  ...[16000, 24000, 48000].flatMap((from) => [44100, 48000, 96000].map((to) => [from, to])),
];

/** @param {number} hertz @param {number} rate @param {number} count */
function sine(hertz, rate, count, amplitude = 0.5) {
  return Float32Array.from({ length: count }, (_, i) =>
    amplitude * Math.sin((2 * Math.PI * hertz * i) / rate));
}

/** Feed `input` in pieces of random length. */
function inPieces(resampler, input, random, longest) {
  const output = new Float32Array(resampler.outputs(input.length) + 1);
  let made = 0;
  for (let at = 0; at < input.length;) {
    const piece = input.subarray(at, at + Math.floor(random() * longest));
    made += resampler.write(piece, output, made);
    at += piece.length;
    assert.equal(made, resampler.outputs(at));
  }
  return output.subarray(0, made);
}

/** Level in dB of what `hertz` leaves at the output, against the input. */
function gain(from, to, hertz) {
  const output = new Resampler(from, to).process(sine(hertz, from, from)).subarray(to / 4);
  const power = output.reduce((sum, value) => sum + value * value, 0) / output.length;
  return 10 * Math.log10(power / 0.125 + 1e-30);
}

/** Signal to noise of a sine in dB: the best fit of it against the rest. */
function signalToNoise(output, rate, hertz) {
  let [ss, cc, sc, ys, yc] = [0, 0, 0, 0, 0];
  const angle = (2 * Math.PI * hertz) / rate;
  output.forEach((y, i) => {
    const [s, c] = [Math.sin(angle * i), Math.cos(angle * i)];
    ss += s * s; cc += c * c; sc += s * c; ys += y * s; yc += y * c;
  });
  const det = ss * cc - sc * sc;
  const [a, b] = [(ys * cc - yc * sc) / det, (yc * ss - ys * sc) / det];
  let [signal, noise] = [0, 0];
  output.forEach((y, i) => {
    const fit = a * Math.sin(angle * i) + b * Math.cos(angle * i);
    signal += fit * fit;
    noise += (y - fit) ** 2;
  });
  return 10 * Math.log10(signal / noise);
}

test("no sample is lost or gained, and no cut changes a bit", () => {
  for (const [from, to] of PAIRS) {
    const random = chance(from + to);
    const input = Float32Array.from({ length: 4001 }, () => random() * 2 - 1);
    const whole = new Resampler(from, to).process(input);
    assert.equal(whole.length, Math.ceil((input.length * to) / from), `${from} to ${to}`);
    for (const longest of [3, 129, 4000]) {
      const pieces = inPieces(new Resampler(from, to), input, random, longest);
      const same = pieces.every((value, i) => value === whole[i]);
      assert.ok(same && pieces.length === whole.length, `${from} to ${to}, up to ${longest}`);
    }
  }
});

test("the delay is as told, to the sample", () => {
  for (const [from, to] of PAIRS) {
    const resampler = new Resampler(from, to);
    // A slow wave, in phase with itself only if the delay is right.
    const input = sine(50, from, from / 4);
    const output = [...resampler.process(input), ...resampler.flush()].slice(resampler.delay);
    assert.equal(output.length, Math.ceil(input.length * to / from));
    let worst = 0;
    for (let at = to / 50; at < output.length - to / 50; at++) {
      const expected = 0.5 * Math.sin((2 * Math.PI * 50 * at) / to);
      worst = Math.max(worst, Math.abs(output[at] - expected));
    }
    assert.ok(worst < 1e-4, `${from} to ${to}: ${worst}`);
    assert.equal(resampler.inputAt(resampler.delay), 0);
  }
});

test("nothing that the new rate cannot hold comes through", () => {
  for (const from of INPUTS) {
    for (const hertz of [8100, 8500, 10000, 12000, 15900, 16100, 20000]) {
      const left = gain(from, 16000, hertz);
      assert.ok(left < -80, `${hertz} Hz at ${from}: ${left}`);
    }
    for (const hertz of [4100, 6000, 8000]) {
      assert.ok(gain(from, 8000, hertz) < -80);
    }
  }
});

test("speech comes through as it is", () => {
  for (const from of INPUTS) {
    for (const hertz of [100, 1000, 4000, 7000]) {
      assert.ok(Math.abs(gain(from, 16000, hertz)) < 0.01, `${hertz} Hz at ${from}`);
    }
  }
});

test("playback has no images of the stream's own spectrum", () => {
  for (const [from, to] of [[16000, 44100], [24000, 44100], [24000, 48000], [16000, 48000]]) {
    for (const hertz of [1000, 5000, 0.43 * from]) {
      const output = new Resampler(from, to).process(sine(hertz, from, from));
      const snr = signalToNoise(output.subarray(to / 4), to, hertz);
      assert.ok(snr > 80, `${hertz} Hz, ${from} to ${to}: ${snr}`);
    }
  }
});

test("a tone keeps its frequency, and what rounding to 16 bit leaves of it", () => {
  for (const from of INPUTS) {
    const output = new Resampler(from, 16000).process(sine(1000, from, 2 * from));
    const rounded = fromPcm16(toPcm16(output)).subarray(1600);
    const snr = signalToNoise(rounded, 16000, 1000);
    assert.ok(snr > 85, `${from}: ${snr}`);
  }
});

test("a constant stays one", () => {
  for (const [from, to] of PAIRS) {
    const output = new Resampler(from, to).process(new Float32Array(from / 4).fill(0.5));
    const off = output.subarray(to / 10).map((value) => Math.abs(value - 0.5));
    assert.ok(Math.max(...off) < 1e-6, `${from} to ${to}`);
  }
});

test("equal rates pass unchanged and at once", () => {
  const resampler = new Resampler(48000, 48000);
  const input = sine(440, 48000, 500);
  assert.deepEqual(resampler.process(input), input);
  assert.equal(resampler.delay, 0);
  assert.equal(resampler.flush().length, 0);
});

test("after a flush the stream begins anew", () => {
  const resampler = new Resampler(48000, 16000);
  const input = sine(440, 48000, 1000);
  const first = [...resampler.process(input), ...resampler.flush()];
  assert.deepEqual([...resampler.process(input), ...resampler.flush()], first);
});

test("rates that are none are refused", () => {
  assert.throws(() => designFilter(0, 16000), RangeError);
  assert.throws(() => designFilter(44100.5, 16000), RangeError);
  assert.throws(() => designFilter(44101, 16000), RangeError);
});

test("PCM16 is clamped, and goes back and forth unchanged", () => {
  const pcm = toPcm16(Float32Array.from([0, 1, -1, 2, -2, 0.5, -0.5, 1e-9]));
  assert.deepEqual([...pcm], [0, 32767, -32768, 32767, -32768, 16384, -16384, 0]);
  const all = Int16Array.from({ length: 65536 }, (_, i) => i - 32768);
  assert.deepEqual(toPcm16(fromPcm16(all)), all);
});

test("levels", () => {
  const pcm = toPcm16(sine(1000, 16000, 16000));
  const { level, peak } = levelOf(pcm);
  assert.ok(Math.abs(level - 0.5 * Math.SQRT1_2) < 1e-4);
  assert.ok(Math.abs(peak - 0.5) < 1e-4);
  assert.deepEqual(levelOf(new Int16Array(0)), { level: 0, peak: 0 });
});

test("fades end in silence, begin in it, and never step", () => {
  for (const out of [true, false]) {
    const samples = new Float32Array(300).fill(1);
    fade(samples, 100, 244, out);
    const [silent, full] = out ? [243, 100] : [100, 243];
    assert.equal(samples[silent], 0);
    assert.ok(samples[full] > 0.99);
    for (let i = 101; i < 244; i++) {
      assert.ok(Math.abs(samples[i] - samples[i - 1]) < 1.6 / 144);
    }
    assert.equal(samples[99], 1);
    assert.equal(samples[244], 1);
  }
});
