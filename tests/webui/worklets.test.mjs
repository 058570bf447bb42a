/** Both worklets in a scope that has what theirs has. */
import assert from "node:assert/strict";
import { before, test } from "node:test";

import { designFilter } from "../../webui_patch/dsp.js";

const processors = {};
let latest;

before(async () => {
  globalThis.AudioWorkletProcessor = class {
    constructor() {
      const messages = [];
      this.port = { messages, onmessage: null, postMessage: (message) => messages.push(message) };
      latest = this;
    }
  };
  globalThis.registerProcessor = (name, processor) => { processors[name] = processor; };
  globalThis.sampleRate = 48000;
  globalThis.currentFrame = 0;
  await import("../../webui_patch/recorder-worklet.js");
  await import("../../webui_patch/player-worklet.js");
});

/** @param {string} name */
function make(name, processorOptions = {}) {
  globalThis.currentFrame = 48000;
  new processors[name]({ processorOptions });
  const processor = latest;
  return {
    messages: processor.port.messages,
    of: (type) => processor.port.messages.filter((message) => message.type === type),
    tell: (data) => processor.port.onmessage({ data }),
    /** @param {Float32Array | null} input */
    turn(input = null) {
      const output = new Float32Array(128).fill(9);
      const alive = processor.process(input ? [[input]] : [[]], [[output]]);
      globalThis.currentFrame += 128;
      return { output, alive };
    },
  };
}

const ones = new Float32Array(128).fill(0.25);
const start = (rate) => ({ type: "start", rate, design: designFilter(48000, rate) });

test("the recorder holds, then delivers", () => {
  const recorder = make("gptme-voice-recorder");
  for (let i = 0; i < 375; i++) recorder.turn(ones);
  assert.deepEqual(recorder.messages, []);
  recorder.tell(start(16000));
  for (let i = 0; i < 375; i++) recorder.turn(ones);
  const frames = recorder.of("frame");
  assert.equal(frames.length, 100);
  assert.equal(frames[50].pcm.byteLength, 640);
  assert.ok(Math.abs(frames[50].level - 0.25) < 0.001);
  assert.deepEqual(frames[99].stats, { captured: 32000, delivered: 32000, lost: 0 });
});

test("muted time does not exist for the recorder", () => {
  const recorder = make("gptme-voice-recorder");
  recorder.tell(start(16000));
  for (let i = 0; i < 4; i++) recorder.turn(ones);
  recorder.tell({ type: "mute", on: true });
  for (let i = 0; i < 1000; i++) recorder.turn(new Float32Array(128).fill(-1));
  recorder.tell({ type: "mute", on: false });
  for (let i = 0; i < 371; i++) recorder.turn(ones);
  const samples = recorder.of("frame").flatMap(({ pcm }) => [...new Int16Array(pcm)]);
  assert.equal(samples.length, 16000);
  assert.ok(samples.slice(200).every((sample) => Math.abs(sample - 8192) < 2));
  assert.equal(recorder.of("frame")[49].stats.lost, 0);
});

test("the recorder counts what the browser skips", () => {
  const recorder = make("gptme-voice-recorder");
  recorder.tell(start(16000));
  recorder.turn(ones);
  globalThis.currentFrame += 384;
  for (let i = 0; i < 20; i++) recorder.turn(ones);
  assert.equal(recorder.of("frame")[1].stats.lost, 128);
});

test("a frame that is told a block late is no loss", () => {
  const recorder = make("gptme-voice-recorder");
  recorder.tell(start(16000));
  for (let begun = 0; begun < 2; begun++) {
    for (let i = 0; i < 40; i++) {
      const late = i % 10 === 0;
      if (late) globalThis.currentFrame -= 128;
      recorder.turn(ones);
      if (late) globalThis.currentFrame += 128;
    }
    recorder.turn(null);
  }
  assert.equal(recorder.of("frame").at(-1).stats.lost, 0);
});

test("flushes are answered: without a rate, while muted, and when the microphone is gone", () => {
  const recorder = make("gptme-voice-recorder");
  recorder.tell({ type: "flush", id: 1 });
  assert.deepEqual(recorder.of("flushed").map(({ id }) => id), [1]);
  recorder.tell(start(16000));
  for (let i = 0; i < 10; i++) recorder.turn(ones);
  recorder.tell({ type: "flush", id: 2 });
  assert.equal(recorder.of("flushed").length, 1);
  for (let i = 0; i < 5; i++) recorder.turn(null);
  assert.deepEqual(recorder.of("flushed").map(({ id }) => id), [1, 2]);
  recorder.turn(ones);
  recorder.tell({ type: "mute", on: true });
  recorder.tell({ type: "flush", id: 3 });
  for (let i = 0; i < 5; i++) recorder.turn(new Float32Array(128).fill(-1));
  assert.equal(recorder.of("flushed").length, 3);
});

test("what was taken before muting is delivered, also when its rate is known only then", () => {
  const recorder = make("gptme-voice-recorder");
  for (let i = 0; i < 750; i++) recorder.turn(ones);
  recorder.tell({ type: "mute", on: true });
  recorder.tell(start(16000));
  recorder.tell({ type: "flush", id: 1 });
  for (let i = 0; i < 100; i++) recorder.turn(new Float32Array(128).fill(-1));
  assert.deepEqual(recorder.of("flushed").map(({ id }) => id), [1]);
  const samples = recorder.of("frame").flatMap(({ pcm }) => [...new Int16Array(pcm)]);
  assert.ok(Math.abs(samples.length - 32000) <= 100, `${samples.length}`);
  assert.ok(samples.slice(200, 31900).every((sample) => Math.abs(sample - 8192) < 2));
});

test("a flush of nothing delivers nothing", () => {
  const recorder = make("gptme-voice-recorder");
  recorder.tell({ type: "mute", on: true });
  recorder.tell(start(16000));
  recorder.tell({ type: "flush", id: 1 });
  for (let i = 0; i < 20; i++) recorder.turn(ones);
  assert.deepEqual(recorder.messages.map(({ type }) => type), ["flushed"]);
  recorder.tell({ type: "mute", on: false });
  for (let i = 0; i < 3; i++) recorder.turn(ones);
  recorder.tell({ type: "mute", on: true });
  recorder.tell({ type: "flush", id: 2 });
  for (let i = 0; i < 20; i++) recorder.turn(ones);
  const frames = recorder.of("frame").length;
  recorder.tell({ type: "flush", id: 3 });
  for (let i = 0; i < 20; i++) recorder.turn(ones);
  assert.equal(recorder.of("frame").length, frames);
  assert.deepEqual(recorder.of("flushed").map(({ id }) => id), [1, 2, 3]);
});

test("a closed recorder ends", () => {
  const recorder = make("gptme-voice-recorder");
  assert.equal(recorder.turn(ones).alive, true);
  recorder.tell({ type: "close" });
  assert.equal(recorder.turn(ones).alive, false);
});

const player = () =>
  make("gptme-voice-player", { streamRate: 24000, design: designFilter(24000, 48000) });
const tone = (count) => Int16Array.from({ length: count }, (_, i) => 8000 * Math.sin(i / 5)).buffer;

test("the player reports every 20 ms, the first sound at once, and the end", () => {
  const playing = player();
  for (let i = 0; i < 1000; i++) playing.turn();
  assert.deepEqual(playing.messages, []);
  playing.tell({ type: "begin", position: 5000 });
  playing.tell({ type: "push", pcm: tone(12000), total: 12000 });
  for (let i = 0; i < 188; i++) playing.turn();
  const reports = playing.of("progress");
  const [first] = reports;
  assert.equal(first.first, true);
  assert.ok(first.position > 5000 && first.position < 5200);
  assert.ok(reports.length >= 22 && reports.length <= 26);
  const seconds = reports.reduce((sum, report) => sum + report.seconds, 0);
  assert.ok(Math.abs(seconds - 0.5) < 0.03);
  assert.ok(Math.abs(reports[10].level - 8000 / 32768 / Math.SQRT2) < 0.01);
  for (let i = 0; i < 900; i++) playing.turn();
  const after = playing.of("progress");
  const last = after[after.length - 1];
  assert.deepEqual([last.position, last.active], [17000, false]);
  assert.ok(last.quiet > 0.9 && last.quiet < 1.1);
  assert.ok(after.length - reports.length < 15);
  assert.equal(last.stats.lost, 0);
});

test("the player says where it falls silent, and nothing afterwards", () => {
  // Whenever the next report would be due.
  for (let turns = 40; turns < 49; turns++) {
    const playing = player();
    playing.tell({ type: "push", pcm: tone(24000), total: 24000 });
    for (let i = 0; i < turns; i++) playing.turn();
    const reports = playing.of("progress").length;
    playing.tell({ type: "clear", position: 24000, id: 7 });
    const [cleared] = playing.of("cleared");
    assert.equal(cleared.id, 7);
    assert.ok(Math.abs(cleared.position - turns * 64) < 200);
    playing.turn();
    playing.turn();
    for (let i = 0; i < 400; i++) {
      assert.ok(playing.turn().output.every((sample) => sample === 0));
    }
    assert.equal(cleared.stats.received, 24000);
    assert.equal(playing.of("progress").length, reports);
  }
});

test("frames that never came are counted", () => {
  const playing = player();
  playing.tell({ type: "push", pcm: tone(100), total: 150 });
  for (let i = 0; i < 60; i++) playing.turn();
  const reports = playing.of("progress");
  assert.equal(reports[reports.length - 1].stats.lost, 50);
});

test("a closed player fades out, then ends", () => {
  const playing = player();
  playing.tell({ type: "push", pcm: tone(24000), total: 24000 });
  for (let i = 0; i < 40; i++) playing.turn();
  playing.tell({ type: "close" });
  let turns = 0;
  while (playing.turn().alive) turns++;
  assert.ok(turns >= 1 && turns <= 3);
});
