import assert from "node:assert/strict";
import { test } from "node:test";

import { Outgoing } from "../../webui_patch/outgoing.js";
import { asProblem, CODES, Problem } from "../../webui_patch/problems.js";
import { ReconnectPolicy } from "../../webui_patch/reconnect.js";
import { isWelcomePage, shownConversations } from "../../webui_patch/ui/anchors.js";
import {
  buttonLabel, elapsed, meter, percent, stateWord, workLine,
} from "../../webui_patch/ui/labels.js";
import { remedy } from "../../webui_patch/ui/remedies.js";
import { chosenIn } from "../../webui_patch/ui/web-ui-state.js";

const frame = (n) => ({ pcm: new Int16Array(320).fill(n).buffer, seconds: 0.02 });

test("what cannot be sent waits, in order, and goes out once", () => {
  const outgoing = new Outgoing();
  const sent = [];
  let open = false;
  const send = (pcm) => open && Boolean(sent.push(new Int16Array(pcm)[0]));
  for (let i = 0; i < 3; i++) {
    outgoing.push(frame(i));
    outgoing.drain(send);
  }
  assert.deepEqual(sent, []);
  open = true;
  outgoing.push(frame(3));
  outgoing.drain(send);
  outgoing.drain(send);
  assert.deepEqual(sent, [0, 1, 2, 3]);
  assert.equal(outgoing.lost, 0);
});

test("half a minute waits; what is older is counted as lost", () => {
  const outgoing = new Outgoing();
  for (let i = 0; i < 1510; i++) outgoing.push(frame(i));
  assert.equal(outgoing.lost, 10 * 320);
  const sent = [];
  outgoing.drain((pcm) => Boolean(sent.push(new Int16Array(pcm)[0])));
  assert.equal(sent.length, 1500);
  assert.equal(sent[0], 10);
});

test("attempts to connect again wait longer and longer, and end", () => {
  const policy = new ReconnectPolicy();
  policy.succeeded(0);
  const delays = [];
  for (let delay; (delay = policy.next(100)) !== null;) delays.push(delay);
  assert.deepEqual(delays.slice(0, 4), [0, 500, 1000, 2000]);
  assert.deepEqual(delays, [...delays].sort((a, b) => a - b));
});

test("a connection that held begins anew, one that did not goes on", () => {
  const policy = new ReconnectPolicy();
  policy.succeeded(0);
  assert.equal(policy.next(60_000), 0);
  policy.succeeded(60_100);
  assert.equal(policy.next(60_200), 500, "it was lost at once: the next attempt waits");
  policy.succeeded(61_000);
  assert.equal(policy.next(99_000), 0);
});

test("every problem is one sentence that can be read", () => {
  for (const code of CODES) {
    const { message } = new Problem(code);
    assert.match(message, /^[A-Z].*\.$/s, code);
    assert.ok(message.length < 200, code);
  }
  assert.equal(new Problem("x", "The server's own.").message, "The server's own.");
});

test("what was not foreseen is a defect, and kept for the console", () => {
  const cause = new TypeError("x is undefined");
  const problem = asProblem(cause);
  assert.equal(problem.code, "internal_error");
  assert.equal(problem.cause, cause);
  assert.ok(!problem.message.includes("undefined"));
});

test("the conversations of a page are in its address", () => {
  for (const [pathname, search, ids] of [
    ["/", "", []],
    ["/chat", "", []],
    ["/tasks", "", []],
    ["/chat/one", "?server=x", ["one"]],
    ["/chat/one/", "", ["one"]],
    ["/chat/a%20b", "", ["a b"]],
    ["/chat/%E0%A4%A", "", ["%E0%A4%A"]],
    ["/chat/l", "?split=l%2Cr", ["l", "r"]],
    ["/chat/l", "?split=l,r&server=x", ["l", "r"]],
  ]) {
    assert.deepEqual(shownConversations({ pathname, search }), ids, pathname + search);
  }
});

test("the welcome page is where nothing is shown yet", () => {
  const at = (pathname, search = "") => isWelcomePage({ pathname, search });
  assert.ok(at("/") && at("/chat") && at("/chat/") && at("/", "?server=a"));
  assert.ok(!at("/chat/one") && !at("/tasks") && !at("/settings/audio") && !at("/chats"));
  assert.ok(!at("/chat", "?split=l,r") && !at("/chat", "?external=x"));
});

test("the chosen model is the one that is shown, where one was chosen", () => {
  const states = [undefined, "", true, undefined, false, "a/b/c", "."];
  assert.equal(chosenIn(states, "b/c"), undefined, "shown, not chosen");
  states[4] = true;
  assert.equal(chosenIn(states, "b/c"), "a/b/c");
  assert.equal(chosenIn(states, "c"), "a/b/c");
  assert.equal(chosenIn(states, "a/b/c"), "a/b/c");
  assert.equal(chosenIn(states, "/c"), undefined);
  assert.equal(chosenIn(states, "x"), undefined);
  assert.equal(chosenIn([], "x"), undefined);
});

test("gptme's work is one line", () => {
  assert.equal(workLine({ status: "working", text: "make tea" }), "gptme is working: make tea");
  assert.equal(workLine({ status: "confirm", text: "ls" }), "gptme asks for permission: ls");
  assert.equal(workLine({ status: "done", text: "" }), "gptme is done");
  assert.equal(workLine({ status: "new", text: "x" }), "gptme: x");
});

test("what is of no use again is not offered", () => {
  const label = (code) => remedy(code, () => {}).label;
  assert.equal(label("conversation_unknown"), "New conversation");
  assert.equal(label("conversation_in_use"), "Start again");
  assert.equal(label("extra_missing"), "Open settings", "another backend may do");
});

test("a state is one word", () => {
  const plain = { muted: false, reconnecting: false, active: true };
  const at = (state, more = {}) => stateWord({ state, ...plain, ...more });
  assert.equal(at("listening"), "Listening");
  assert.equal(at("listening", { muted: true }), "Muted");
  assert.equal(at("speaking", { muted: true }), "Speaking");
  assert.equal(at("thinking", { reconnecting: true }), "Reconnecting");
  assert.equal(at("ended", { active: false, reconnecting: true }), "Ended");
  assert.equal(at("idle", { active: false }), "");
  assert.equal(at("thinking", { waiting: true }), "Waiting");
  assert.equal(at("thinking", { waiting: true, reconnecting: true }), "Reconnecting");
  const preparing = { what: "Fetching it" };
  assert.equal(at("connecting"), "Connecting");
  assert.equal(at("connecting", { preparing }), "Preparing");
  assert.equal(at("listening", { preparing, reconnecting: true }), "Reconnecting");
});

test("the button's name tells the state", () => {
  const plain = { muted: false, reconnecting: false, problem: null };
  const at = (state, active) => ({ state, active, ...plain });
  assert.equal(buttonLabel(at("idle", false)), "Talk with gptme");
  assert.equal(buttonLabel(at("speaking", true)), "Voice: speaking. End voice");
  assert.equal(buttonLabel(at("idle", false), "No plugin."), "Voice is off here: No plugin.");
  assert.equal(buttonLabel(at("listening", true), "No plugin."), "Voice: listening. End voice");
});

test("a share is shown in whole per cent, if it is one", () => {
  assert.deepEqual([0, 0.29, 0.345, 0.999, 1, 7, -1].map(percent), [0, 29, 34, 99, 100, 100, 0]);
  assert.deepEqual([undefined, null, NaN, "0.5", {}].map(percent), [null, null, null, null, null]);
});

test("elapsed time", () => {
  const expected = ["0:00", "0:05", "1:05", "1:00:00", "1:02:05"];
  assert.deepEqual([0, 5.9, 65, 3600, 3725].map(elapsed), expected);
  assert.equal(elapsed(-3), "0:00", "clocks are set back");
});

test("the meter moves with what a voice does", () => {
  assert.equal(meter(0), 0);
  assert.equal(meter(1), 1);
  assert.ok(meter(0.1) > 0.6 && meter(0.01) > 0.3 && meter(0.001) < 0.1);
});
