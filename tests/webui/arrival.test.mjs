import assert from "node:assert/strict";
import { test } from "node:test";

import { Arrival, PATIENCE_MS, WRITTEN_MS } from "../../webui_patch/ui/arrival.js";

/** Run `story` with an Arrival, and return how many milliseconds after its beginning it went. */
function gone(story) {
  const real = { setTimeout: globalThis.setTimeout, clearTimeout: globalThis.clearTimeout };
  let now = 0;
  let timer = null;
  const went = [];
  globalThis.setTimeout = (call, delay) => (timer = { call, at: now + delay });
  globalThis.clearTimeout = (known) => { if (known && known === timer) timer = null; };
  const pass = (milliseconds) => {
    const until = now + milliseconds;
    while (timer && timer.at <= until) {
      const { call, at } = timer;
      timer = null;
      now = at;
      call();
    }
    now = until;
  };
  try {
    story(new Arrival(() => went.push(now)), pass);
    pass(60_000);
  } finally {
    Object.assign(globalThis, real);
  }
  return went;
}

const at = (state, more = {}) => ({ state, active: true, work: null, ...more });

test("it goes when the answer has been heard and written", () => {
  assert.deepEqual(gone((arrival, pass) => {
    arrival.due(at("thinking"));
    pass(300);
    arrival.follow(at("speaking"));
    pass(1000);
    arrival.follow(at("listening"));
    arrival.follow(at("listening"));
    pass(100);
    arrival.follow(at("thinking"));
  }), [1300 + WRITTEN_MS]);
});

test("it does not wait for the end of a long answer", () => {
  assert.deepEqual(gone((arrival, pass) => {
    arrival.due(at("speaking"));
    pass(20_000);
    arrival.follow(at("listening"));
  }), [PATIENCE_MS]);
});

test("it goes where gptme is at work, and where nothing is to come", () => {
  const work = { status: "working", text: "" };
  assert.deepEqual(gone((arrival) => arrival.due(at("listening"))), [WRITTEN_MS]);
  assert.deepEqual(gone((arrival) => arrival.due(at("speaking", { work }))), [WRITTEN_MS]);
  assert.deepEqual(gone((arrival, pass) => {
    arrival.due(at("speaking"));
    pass(500);
    arrival.follow(at("ended", { active: false }));
  }), [500 + WRITTEN_MS]);
});

test("without anywhere to go it stays", () => {
  assert.deepEqual(gone((arrival) => arrival.follow(at("listening"))), []);
});
