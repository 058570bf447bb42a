import assert from "node:assert/strict";
import { test } from "node:test";

import { EchoGate } from "../../webui_patch/echo-gate.js";
import { chance } from "./random.mjs";

let nextId = 0;
/** A frame of 20 ms whose samples tell which one it is. @param {number} level */
function frame(level, samples = 320) {
  const pcm = new Int16Array(samples).fill(1 + (nextId++ % 30000));
  return { pcm: pcm.buffer, level, peak: level, seconds: samples / 16000 };
}
const id = ({ pcm }) => new Int16Array(pcm)[0];
const isSilent = ({ pcm }) => new Int16Array(pcm).every((sample) => sample === 0);

/** Play and capture side by side, 20 ms at a time. */
function run(gate, count, played, captured) {
  const [sent, out] = [[], []];
  for (let i = 0; i < count; i++) {
    if (played > 0) gate.played(played, 0.02);
    const next = frame(typeof captured === "function" ? captured(i) : captured);
    sent.push(next);
    out.push(...gate.captured(next));
  }
  return { sent, out };
}

test("without playback everything passes at once", () => {
  const { sent, out } = run(new EchoGate(), 50, 0, 0.01);
  assert.deepEqual(out, sent);
});

test("early echo leaves as silence of its length", () => {
  const gate = new EchoGate();
  const { out } = run(gate, 100, 0.15, 0.02);
  assert.ok(out.length >= 84 && out.every(isSilent));
  assert.equal(out[0].pcm.byteLength, 640);
  assert.deepEqual([out[0].level, out[0].peak, out[0].seconds], [0, 0, 0.02]);
});

test("echo that comes after the playback is withheld, too; what comes later is not", () => {
  const gate = new EchoGate();
  run(gate, 20, 0.15, 0.02);
  const { sent, out } = run(gate, 40, 0, 0.02);
  const passed = out.filter((one) => !isSilent(one));
  assert.deepEqual(passed, sent.slice(-passed.length));
  assert.ok(passed.length >= 19 && passed.length <= 21, `${passed.length}`);
});

test("once settled everything passes, and nothing stays behind", () => {
  const gate = new EchoGate();
  const { out } = run(gate, 125, 0.15, 0.02);
  assert.ok(gate.settled);
  const next = run(gate, 5, 0.15, 0.02);
  assert.equal(out.length + next.out.length, 130);
  assert.deepEqual(next.out.slice(-5), next.sent);
});

test("playback that cannot be heard does not settle anything", () => {
  const gate = new EchoGate();
  const { sent, out } = run(gate, 300, 0.001, 0.02);
  assert.ok(!gate.settled);
  assert.deepEqual(out, sent);
});

test("a voice over it comes through from before its first sound", () => {
  const gate = new EchoGate();
  const before = run(gate, 30, 0.15, 0.02);
  const voice = run(gate, 30, 0.15, 0.1);
  assert.ok(before.out.every(isSilent));
  const out = voice.out.filter((one) => !isSilent(one)).map(id);
  assert.deepEqual(out.slice(-30), voice.sent.map(id));
  // And 240 ms of what was before it.
  assert.deepEqual(out.slice(0, -30), before.sent.slice(-out.length + 30).map(id));
  assert.ok(out.length - 30 >= 12, `${out.length}`);
});

test("a quiet voice is heard when the speaker is quiet", () => {
  const gate = new EchoGate();
  run(gate, 30, 0.03, 0.002);
  const { out } = run(gate, 10, 0.03, 0.02);
  assert.ok(out.filter((one) => !isSilent(one)).length > 10);
});

test("one knock is no voice", () => {
  const gate = new EchoGate();
  const { out } = run(gate, 90, 0.15, (i) => (i % 12 === 5 ? 0.3 : 0.02));
  assert.ok(out.every(isSilent));
});

test("after the utterance it is shut again", () => {
  const gate = new EchoGate();
  run(gate, 20, 0.15, 0.1);
  run(gate, 29, 0.15, 0.02);
  const { out } = run(gate, 40, 0.15, 0.02);
  assert.ok(out.slice(5).every(isSilent) && out.length > 20);
});

test("a voice that begins as the playback ends is not lost", () => {
  const gate = new EchoGate();
  run(gate, 20, 0.15, 0.02);
  run(gate, 18, 0, 0.02);
  const { sent, out } = run(gate, 5, 0, 0.2);
  const heard = out.map(id);
  assert.ok(sent.every((one) => heard.includes(id(one))));
});

test("disabled, it lets everything through", () => {
  const { sent, out } = run(new EchoGate({ enabled: false }), 50, 0.15, 0.02);
  assert.deepEqual(out, sent);
});

test("another microphone begins anew, and what was held comes out", () => {
  const gate = new EchoGate();
  run(gate, 130, 0.15, 0.02);
  assert.ok(gate.settled);
  assert.deepEqual(gate.reset(), []);
  assert.ok(!gate.settled);
  const { out } = run(gate, 20, 0.15, 0.02);
  assert.equal(out.length + gate.reset().length, 20);
});

test("whatever happens, each frame leaves once, in order, at its length", () => {
  for (let seed = 1; seed <= 300; seed++) {
    const random = chance(seed);
    const gate = new EchoGate();
    const [sent, out] = [[], []];
    let [level, played] = [0, 0];
    for (let i = 0; i < 400; i++) {
      if (random() < 0.1) level = random() ** 3;
      if (random() < 0.05) played = random() < 0.4 ? 0 : random() * 0.3;
      if (played && random() < 0.9) gate.played(played, 0.02);
      const next = frame(level, random() < 0.1 ? 1 + Math.floor(random() * 800) : 320);
      sent.push(next);
      out.push(...gate.captured(next));
      const held = sent.slice(out.length).reduce((sum, { seconds }) => sum + seconds, 0);
      assert.ok(held <= 0.3001, "more is held than may be");
      if (random() < 0.01) out.push(...gate.reset());
      if (random() < 0.01) out.push(...gate.drain());
    }
    out.push(...gate.drain());
    assert.equal(out.length, sent.length);
    out.forEach((one, i) => {
      assert.equal(one.pcm.byteLength, sent[i].pcm.byteLength);
      assert.ok(isSilent(one) || id(one) === id(sent[i]), `seed ${seed}, frame ${i}`);
    });
  }
});
