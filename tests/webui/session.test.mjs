import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { PreferenceStore } from "../../webui_patch/preferences.js";
import { Problem } from "../../webui_patch/problems.js";
import { VoiceSession } from "../../webui_patch/session.js";
import { OVER_MS } from "../../webui_patch/work.js";

// A clock that goes on when it is told to.

const real = { setTimeout: globalThis.setTimeout, clearTimeout: globalThis.clearTimeout };
let now, timers;

beforeEach(() => {
  now = 0;
  timers = new Map();
  let next = 1;
  globalThis.setTimeout = (call, delay = 0) => {
    timers.set(next, { call, at: now + delay });
    return next++;
  };
  globalThis.clearTimeout = (timer) => void timers.delete(timer);
  globalThis.document ??= { addEventListener() {}, removeEventListener() {} };
});
afterEach(() => Object.assign(globalThis, real));

/** Let what is under way come to its end. */
const settled = () => new Promise((resolve) => { setImmediate(resolve); });

async function pass(milliseconds) {
  now += milliseconds;
  for (const [timer, { call, at }] of [...timers].sort((a, b) => a[1].at - b[1].at)) {
    if (at <= now && timers.delete(timer)) call();
  }
  await settled();
}

// A server that says what a test has it say, and no sound.

class FakeConnection {
  static all = [];
  ready = false;
  sent = [];
  closed = false;

  constructor(url, hello, owner) {
    Object.assign(this, { url, hello, owner });
    FakeConnection.all.push(this);
  }

  accept(sessionId = "s1", more = {}) {
    this.ready = true;
    this.owner.onReady({
      type: "ready", session_id: sessionId, input_sample_rate: 16_000,
      output_sample_rate: 24_000, backend: "b", model: "m", features: ["interrupt"], ...more,
    });
    return settled();
  }

  say(message) { this.owner.onMessage(message); }
  lose() { return this.end(new Problem("connection_lost"), true); }
  end(problem, retry) {
    this.owner.onEnd({ problem, retry, opened: true, unsent: 0 });
    return settled();
  }
  send(message) { this.sent.push(message); }
  sendAudio() { return this.ready; }
  close() { this.closed = true; }
}

class Silent {
  rate = 0;
  lostFrames = 0;
  constructor(context, owner) { Silent.made.push(Object.assign(this, { owner })); }
  static made = [];
  async open() {}
  start(rate) { this.rate = rate; }
  async settle() {}
  async clear() {}
  flush() {}
  lose() {}
  begin() {}
  push() {}
  disconnect() {}
  dropLeaving() {}
  close() {}
}

const SERVER = { base: "http://localhost:5700", token: "", name: "" };
const WELCOME = { id: null, title: "a new conversation", path: "/?server=a" };
const SHOWN = { id: "one", title: "one", path: "/chat/one" };
const MADE = { type: "conversation", conversation_id: "voice-1", name: "About tea" };

async function started(target = {}) {
  FakeConnection.all = [];
  const session = new VoiceSession(new PreferenceStore(null), {
    openContext: async () => ({}),
    restContext: async () => {},
    chooseSpeaker: async () => {},
    speakerEvents: new EventTarget(),
    admission: async () => "ws://localhost:5700/api/v2/voice",
    diagnose: async () => null,
    Connection: FakeConnection,
    Uplink: Silent,
    Speaker: Silent,
  });
  await begin(session, target);
  return session;
}

async function begin(session, target = {}) {
  const pathOf = (id) => `/chat/${id}?server=a`;
  await session.start({ conversation: SHOWN, server: SERVER, pathOf, ...target });
  await settled();
}

const connection = () => FakeConnection.all.at(-1);
const tool = (status, text = "make tea") => ({ type: "tool", name: "ask_gptme", status, text });

test("a session says which conversation it is for", async () => {
  await started();
  assert.equal(connection().hello.conversation_id, "one");
  assert.ok(!("chat_model" in connection().hello) && !("resume" in connection().hello));
});

test("from the welcome page it says which model was chosen there, if one was", async () => {
  await started({ conversation: WELCOME, chatModel: "a/b" });
  assert.equal(connection().hello.chat_model, "a/b");
  assert.ok(!("conversation_id" in connection().hello));
  await started({ conversation: WELCOME });
  assert.ok(!("chat_model" in connection().hello));
  await started({ chatModel: "a/b" });
  assert.ok(!("chat_model" in connection().hello), "a conversation has its own");
});

test("a conversation that was made is the session's, also when it connects again", async () => {
  const session = await started({ conversation: WELCOME, chatModel: "a/b" });
  const told = [];
  session.addEventListener("conversation", () => told.push(session.conversation));
  await connection().accept();
  connection().say(MADE);
  const conversation = { id: "voice-1", title: "About tea", path: "/chat/voice-1?server=a" };
  assert.deepEqual(told, [conversation]);
  await connection().lose();
  await pass(0);
  assert.equal(FakeConnection.all.length, 2);
  assert.equal(connection().hello.conversation_id, "voice-1");
  assert.ok(!("chat_model" in connection().hello));
  session.stop();
  assert.deepEqual(session.conversation, conversation, "starting again goes on in it");
});

test("another server than the conversation's makes one, and goes on with it", async () => {
  const session = await started({ elsewhere: true });
  assert.equal(connection().hello.conversation_id, undefined);
  await connection().accept();
  connection().say(MADE);
  assert.equal(session.conversation.id, "one", "the session is shown where it was begun");
  await connection().lose();
  await pass(60_000);
  assert.equal(connection().hello.conversation_id, "voice-1");
  session.stop();
});

test("a conversation without a name, or a place in the page", async () => {
  const session = await started({ conversation: WELCOME, pathOf: () => "" });
  await connection().accept();
  connection().say({ ...MADE, name: "" });
  const { conversation } = session;
  assert.deepEqual(conversation, { id: "voice-1", title: "voice-1", path: "" });
});

test("a new connection takes over from the last one that was ready", async () => {
  const session = await started();
  await connection().accept("s1");
  await connection().lose();
  await pass(0);
  assert.equal(connection().hello.resume, "s1");
  await connection().accept("s2");
  await connection().lose();
  await pass(10_000);
  assert.equal(connection().hello.resume, "s2");
  await connection().lose();
  await pass(10_000);
  assert.equal(connection().hello.resume, "s2", "the one between was never ready");
  session.stop();
});

test("starting again after a failure takes over too, in the same conversation only", async () => {
  const session = await started();
  await connection().accept("s1");
  await connection().end(new Problem("ready_timeout"), false);
  assert.equal(session.state, "ended");
  await begin(session);
  assert.equal(connection().hello.resume, "s1");
  await connection().end(new Problem("ready_timeout"), false);
  await begin(session, { conversation: { ...SHOWN, id: "two" } });
  assert.ok(!("resume" in connection().hello));
  await connection().accept("s2");
  session.stop();
  await begin(session, { conversation: { ...SHOWN, id: "two" } });
  assert.ok(!("resume" in connection().hello), "what was ended is over");
});

for (const code of ["conversation_in_use", "conversation_unknown"]) {
  test(`${code} is said, and not tried again`, async () => {
    const session = await started();
    await connection().end(new Problem(code, "The server's sentence."), false);
    await pass(60_000);
    assert.equal(FakeConnection.all.length, 1);
    assert.equal(session.state, "ended");
    assert.equal(session.problem.code, code);
    assert.equal(session.problem.message, "The server's sentence.");
  });
}

test("gptme's work is shown as long as it goes on, and a while after", async () => {
  const session = await started();
  await connection().accept();
  assert.equal(session.work, null);
  connection().say(tool("working"));
  await pass(OVER_MS * 10);
  assert.deepEqual(session.work, { status: "working", text: "make tea" });
  connection().say(tool("confirm", "shell: ls"));
  await pass(OVER_MS * 10);
  assert.deepEqual(session.work, { status: "confirm", text: "shell: ls" });
  for (const status of ["done", "failed", "cancelled"]) {
    connection().say(tool(status));
    await pass(OVER_MS - 1);
    assert.equal(session.work.status, status);
    let changes = 0;
    session.addEventListener("change", () => changes++, { once: true });
    await pass(1);
    assert.equal(session.work, null);
    assert.equal(changes, 1, "it is told");
  }
  session.stop();
});

test("work that begins while the last one's end is shown stays", async () => {
  const session = await started();
  await connection().accept();
  connection().say(tool("done"));
  await pass(OVER_MS - 1);
  connection().say(tool("working", "next"));
  await pass(OVER_MS);
  assert.equal(session.work.text, "next");
  session.stop();
});

test("work ends with the session, timers too", async () => {
  const session = await started();
  await connection().accept();
  connection().say(tool("done"));
  session.stop();
  assert.equal(session.work, null);
  let changes = 0;
  await pass(1500);
  session.addEventListener("change", () => changes++);
  await pass(OVER_MS);
  assert.equal(changes, 0);
});

test("what was shown of work is told anew by a new connection, or not true any more", async () => {
  const session = await started();
  await connection().accept();
  connection().say(tool("confirm"));
  await connection().lose();
  await pass(0);
  assert.equal(session.work.status, "confirm");
  await connection().accept("s2");
  assert.equal(session.work, null);
  session.stop();
});

test("a recording is shown from ready to the end, unless it fails", async () => {
  const session = await started();
  assert.equal(session.recording, false);
  await connection().accept("s1", { recording: true });
  assert.equal(session.recording, true);
  await connection().lose();
  assert.equal(session.recording, true);
  await pass(0);
  await connection().accept("s2", { recording: false });
  assert.equal(session.recording, false);
  await connection().lose();
  await pass(10_000);
  await connection().accept("s3", { recording: true });
  connection().say({ type: "error", code: "x", message: "Something.", fatal: false });
  assert.equal(session.recording, true);
  connection().say({ type: "error", code: "recording_failed", message: "Full.", fatal: false });
  assert.equal(session.recording, false);
  assert.equal(session.notice, "Full.");
  session.stop();
  await begin(session);
  await connection().accept("s4", { recording: true });
  session.stop();
  assert.equal(session.recording, false);
});

test("what the server prepares is shown until it is ready", async () => {
  const session = await started();
  assert.equal(session.preparing, null);
  connection().say({ type: "preparing", what: "Fetching it", share: 0.25 });
  assert.deepEqual(session.preparing, { what: "Fetching it", share: 0.25 });
  assert.equal(session.state, "connecting", "it does not listen yet");
  connection().say({ type: "preparing", what: "Loading it" });
  assert.deepEqual(session.preparing, { what: "Loading it", share: undefined });
  await connection().accept();
  assert.equal(session.preparing, null);
  assert.equal(session.state, "listening");
  session.stop();
});

test("what is prepared is over with the connection", async () => {
  const session = await started();
  connection().say({ type: "preparing", what: "Fetching it", share: 0.25 });
  await connection().end(new Problem("preparing_timeout"), false);
  assert.equal(session.preparing, null);
  await begin(session);
  connection().say({ type: "preparing", what: "Fetching it", share: 0.25 });
  session.stop();
  assert.equal(session.preparing, null);
});

test("what is said while it prepares for longer than it is kept is not called lost", async () => {
  Silent.made = [];
  const session = await started();
  const microphone = Silent.made[0];
  connection().say({ type: "preparing", what: "Fetching it" });
  microphone.lostFrames = 70;
  assert.equal(session.lostFrames, 0);
  await connection().accept();
  microphone.lostFrames = 100;
  microphone.owner.onLevel(0, 0.02);
  assert.equal(session.lostFrames, 0);
  microphone.lostFrames = 103;
  microphone.owner.onLevel(0, 0.02);
  assert.equal(session.lostFrames, 3);
  await connection().lose();
  await pass(0);
  await connection().accept("s2");
  microphone.lostFrames = 110;
  microphone.owner.onLevel(0, 0.02);
  assert.equal(session.lostFrames, 10, "nothing was prepared this time");
  session.stop();
});

test("what waits for other conversations is thought about later", async () => {
  const session = await started();
  const state = (name) => connection().say({ type: "state", state: name });
  await connection().accept();
  state("waiting");
  assert.equal(session.waiting, true);
  assert.equal(session.state, "thinking");
  assert.equal(session.interruptible, true);
  for (const next of ["thinking", "speaking", "listening", "reconnecting"]) {
    state("waiting");
    state(next);
    assert.equal(session.waiting, false, next);
  }
  state("waiting");
  await connection().lose();
  assert.equal(session.waiting, false);
  session.stop();
});

test("a state that is not known changes nothing", async () => {
  const session = await started();
  await connection().accept();
  connection().say({ type: "state", state: "thinking" });
  connection().say({ type: "state", state: "dreaming" });
  assert.equal(session.state, "thinking");
  session.stop();
});

test("a hint is shown until it has been read, and not again", async () => {
  const session = await started();
  await connection().accept("s1", { hint: "It is a parrot." });
  assert.equal(session.hint, "It is a parrot.");
  connection().say({ type: "speech_started" });
  assert.equal(session.hint, "It is a parrot.", "it does not pass");
  session.stop();
  assert.equal(session.hint, "");
  await begin(session);
  await connection().accept("s2", { hint: "It is a parrot." });
  assert.equal(session.hint, "It is a parrot.", "it was not read");
  let changes = 0;
  session.addEventListener("change", () => changes++, { once: true });
  session.dismissHint();
  assert.equal(session.hint, "");
  assert.equal(changes, 1);
  await connection().lose();
  await pass(0);
  await connection().accept("s3", { hint: "It is a parrot." });
  assert.equal(session.hint, "");
  session.stop();
  await begin(session);
  await connection().accept("s4", { hint: "It is a starling." });
  assert.equal(session.hint, "It is a starling.");
  session.stop();
  for (const hint of [undefined, null, 7, {}]) {
    await begin(session);
    await connection().accept("s5", { hint });
    assert.equal(session.hint, "");
    session.stop();
  }
});
