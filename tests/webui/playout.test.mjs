import assert from "node:assert/strict";
import { test } from "node:test";

import { Resampler, toPcm16, fromPcm16 } from "../../webui_patch/dsp.js";
import { Playout } from "../../webui_patch/playout.js";
import { chance } from "./random.mjs";

const QUANTUM = 128;

/** @param {number} count @param {number} rate */
function music(count, rate, from = 0) {
  return toPcm16(Float32Array.from({ length: count }, (_, i) => {
    const t = (from + i) / rate;
    return 0.3 * Math.sin(2 * Math.PI * 317 * t) + 0.2 * Math.sin(2 * Math.PI * 1733 * t);
  }));
}

/** What is heard, and the first sounds' places in it. */
class Listener {
  /** @param {Playout} playout */
  constructor(playout) {
    this.playout = playout;
    this.heard = [];
    this.firsts = [];
  }

  /** @param {number} samples */
  listen(samples) {
    for (let i = 0; i < samples; i += QUANTUM) {
      const output = new Float32Array(QUANTUM).fill(9);
      if (this.playout.render(output)) this.firsts.push(this.heard.length);
      this.heard.push(...output);
      const { received, played, cleared, queued } = this.playout.stats;
      assert.equal(received, played + cleared + queued);
      assert.ok(queued >= 0);
    }
  }

  listenToTheEnd() {
    for (let i = 0; this.playout.busy; i++) {
      assert.ok(i < 10000);
      this.listen(QUANTUM);
    }
  }
}

function steepest(samples) {
  let most = 0;
  for (let i = 1; i < samples.length; i++) {
    most = Math.max(most, Math.abs(samples[i] - samples[i - 1]));
  }
  return most;
}

const RATES = [[24000, 48000], [24000, 44100], [16000, 44100], [48000, 48000], [24000, 96000]];

test("a burst is played whole: the resampled stream, faded at both ends", () => {
  for (const [from, to] of RATES) {
    const pcm = music(from, from);
    const listener = new Listener(new Playout(from, to));
    listener.playout.begin(0);
    listener.playout.push(pcm);
    listener.listenToTheEnd();
    const resampler = new Resampler(from, to);
    const expected = [...resampler.process(fromPcm16(pcm)), ...resampler.flush()];
    const edge = Math.round(0.003 * to) + resampler.delay;
    for (let i = edge; i < expected.length - edge; i++) {
      assert.equal(listener.heard[i], expected[i], `${from} to ${to} at ${i}`);
    }
    assert.ok(listener.heard.slice(expected.length).every((value) => value === 0));
    assert.deepEqual(listener.playout.stats,
      { received: from, played: from, cleared: 0, queued: 0, underruns: 0, silence: 0 });
    assert.equal(listener.playout.position, from);
    assert.deepEqual(listener.firsts.map((at) => at < 4 * QUANTUM), [true]);
  }
});

test("no cut of the stream changes what is heard", () => {
  const pcm = music(24000, 24000);
  const whole = new Listener(new Playout(24000, 44100));
  whole.playout.push(pcm);
  whole.listenToTheEnd();
  for (let seed = 1; seed < 6; seed++) {
    const random = chance(seed);
    const pieces = new Listener(new Playout(24000, 44100));
    for (let at = 0; at < pcm.length;) {
      const count = Math.floor(random() * 900);
      pieces.playout.push(pcm.slice(at, at + count));
      at += count;
    }
    pieces.listenToTheEnd();
    assert.deepEqual(pieces.heard, whole.heard);
  }
});

test("late frames are played when they come, with a fade on either side of the gap", () => {
  const [from, to] = [24000, 48000];
  const listener = new Listener(new Playout(from, to));
  const { playout } = listener;
  playout.push(music(12000, from));
  listener.listen(48000);
  assert.equal(playout.busy, false);
  assert.equal(playout.stats.underruns, 0, "nobody can tell a gap from an end yet");
  playout.push(music(12000, from, 12000));
  assert.equal(playout.stats.underruns, 1);
  assert.ok(Math.abs(playout.quiet - 0.5) < 0.01);
  listener.listenToTheEnd();
  assert.equal(playout.stats.played, 24000);
  assert.ok(Math.abs(playout.stats.silence - 24000) < 500);
  assert.ok(steepest(listener.heard) < steepest(fromPcm16(music(24000, from))));
  assert.equal(listener.firsts.length, 1, "a gap is no new reply");
});

test("a gap raises the store, and the rest waits for it", () => {
  const listener = new Listener(new Playout(24000, 48000));
  const { playout } = listener;
  playout.push(music(4800, 24000));
  listener.listen(9600 + 4800);
  const before = playout.target;
  playout.push(music(1200, 24000));
  assert.ok(playout.target > before + 0.09);
  listener.listen(4800);
  assert.equal(playout.state, "buffering");
  playout.push(music(4800, 24000));
  listener.listen(QUANTUM);
  assert.equal(playout.state, "playing");
});

test("a reply shorter than the store is played, too", () => {
  for (const count of [1, 5, 100, 1000]) {
    const listener = new Listener(new Playout(24000, 48000));
    listener.playout.push(music(count, 24000));
    listener.listenToTheEnd();
    assert.equal(listener.playout.stats.played, count);
    assert.ok(listener.heard.length < 0.2 * 48000);
  }
});

test("two replies follow each other without a seam, and both are told", () => {
  const pcm = music(24000, 24000);
  const whole = new Listener(new Playout(24000, 48000));
  whole.playout.push(pcm);
  whole.listenToTheEnd();
  const two = new Listener(new Playout(24000, 48000));
  two.playout.begin(0);
  two.playout.push(pcm.slice(0, 7001));
  two.playout.begin(50000);
  two.playout.push(pcm.slice(7001));
  assert.equal(two.playout.position, 0);
  two.listenToTheEnd();
  assert.deepEqual(two.heard, whole.heard);
  assert.equal(two.playout.position, 50000 + 24000 - 7001);
  assert.equal(two.firsts.length, 2);
  assert.ok(Math.abs(two.firsts[1] - 14002) < 3 * QUANTUM);
  assert.equal(two.playout.stats.underruns, 0);
});

test("a reply after the end of another is no gap", () => {
  const { playout } = new Listener(new Playout(24000, 48000));
  const listener = new Listener(playout);
  for (let reply = 0; reply < 3; reply++) {
    playout.begin(reply * 2400);
    playout.push(music(2400, 24000));
    listener.listenToTheEnd();
    listener.listen(4800);
  }
  assert.deepEqual([playout.stats.underruns, playout.stats.silence], [0, 0]);
  assert.equal(listener.firsts.length, 3);
});

test("clear is silent within 5 ms, knows where, and does not touch what comes next", () => {
  for (const [from, to] of RATES) {
    const listener = new Listener(new Playout(from, to));
    const { playout } = listener;
    playout.begin(1000);
    playout.push(music(from, from));
    listener.listen(to / 4);
    const at = listener.heard.length;
    const head = playout.position;
    const silentAt = playout.clear(90000);
    const left = silentAt - head;
    assert.ok(left > 0 && left <= Math.ceil(0.005 * from), `${left}`);
    playout.begin(90000);
    playout.push(music(from / 2, from));
    listener.listen(QUANTUM * 4);
    const tail = listener.heard.slice(at, at + Math.round(0.005 * to));
    assert.equal(Math.abs(tail[tail.length - 1]), 0);
    assert.ok(steepest(tail) < steepest(listener.heard.slice(0, at)) * 1.05);
    listener.listenToTheEnd();
    assert.equal(playout.position, 90000 + from / 2);
    const { played, cleared, underruns } = playout.stats;
    assert.equal(played, silentAt - 1000 + from / 2);
    assert.equal(cleared, from - (silentAt - 1000));
    assert.equal(underruns, 0);
  }
});

test("clear before the first sound, in a gap, while it ends, and twice", () => {
  const playout = new Playout(24000, 48000);
  const listener = new Listener(playout);
  assert.equal(playout.clear(10), 0);
  playout.push(music(100, 24000));
  assert.equal(playout.clear(500), 10);
  assert.equal(playout.clear(600), 500);
  listener.listen(4800);
  assert.ok(listener.heard.every((value) => value === 0));
  playout.push(music(4800, 24000));
  listener.listen(20000);
  assert.equal(playout.clear(9000), 600 + 4800);
  playout.push(music(4800, 24000));
  while (playout.state !== "ending") listener.listen(QUANTUM);
  assert.equal(playout.clear(20000), 9000 + 4800);
  listener.listenToTheEnd();
  assert.equal(playout.position, 20000);
});

test("whatever comes when: all is played or cleared, positions only rise, nothing clicks", () => {
  for (let seed = 1; seed <= 60; seed++) {
    const random = chance(seed);
    const [from, to] = RATES[seed % RATES.length];
    const playout = new Playout(from, to);
    const listener = new Listener(playout);
    let [sent, last] = [0, 0];
    playout.begin(0);
    for (let i = 0; i < 200; i++) {
      const what = random();
      if (what < 0.5) {
        const count = Math.floor(random() * from * 0.08);
        playout.push(music(count, from, sent));
        sent += count;
      } else if (what < 0.53) {
        sent += Math.floor(random() * 500);
        const silentAt = playout.clear(sent);
        assert.ok(silentAt >= last && silentAt <= sent);
      } else if (what < 0.56) {
        playout.begin(sent);
      }
      listener.listen(Math.floor(random() * to * 0.04));
      assert.ok(playout.position >= last, `seed ${seed}, step ${i}`);
      last = playout.position;
      assert.ok(last <= sent);
    }
    listener.listenToTheEnd();
    assert.equal(playout.position, sent);
    const bound = steepest(fromPcm16(music(from, from))) * Math.max(1, from / to);
    // Where music jumps, the filter's own ringing is as steep as it.
    assert.ok(steepest(listener.heard) < 4 * bound, `seed ${seed}: ${steepest(listener.heard)}`);
  }
});
