import assert from "node:assert/strict";
import { test } from "node:test";

import { DEFAULTS, parsePreferences, PreferenceStore } from "../../webui_patch/preferences.js";

class Storage {
  items = new Map();
  getItem(key) { return this.items.get(key) ?? null; }
  setItem(key, value) { this.items.set(key, value); }
}

test("nothing stored, or nonsense, is the defaults", () => {
  for (const text of [null, "", "{", "null", "[]", "7", '"x"']) {
    assert.deepEqual(parsePreferences(text), { ...DEFAULTS });
  }
});

test("a value of the wrong kind is the default, the others hold", () => {
  const text = '{"volume": 9, "captions": "no", "microphone": "abc", "unknown": 1}';
  assert.deepEqual(parsePreferences(text), { ...DEFAULTS, microphone: "abc" });
});

test("the address is trimmed", () => {
  assert.equal(parsePreferences('{"serverAddress": "  wss://h/voice \\n"}').serverAddress,
    "wss://h/voice");
});

test("a change is kept, and told by name", () => {
  const storage = new Storage();
  const store = new PreferenceStore(storage);
  const told = [];
  store.addEventListener("change", (event) => told.push(event.detail));
  store.save({ volume: 0.5 });
  store.save({ volume: 0.5 });
  store.save({ captions: false, pushToTalk: true });
  assert.deepEqual(told, [["volume"], ["pushToTalk", "captions"]]);
  const again = new PreferenceStore(storage);
  assert.deepEqual(again.current, { ...DEFAULTS, volume: 0.5, captions: false, pushToTalk: true });
});

test("a browser that stores nothing keeps it for the page", () => {
  const full = new Storage();
  full.setItem = () => { throw new Error("QuotaExceededError"); };
  for (const storage of [null, full]) {
    const store = new PreferenceStore(storage);
    store.save({ volume: 0.25 });
    assert.equal(store.current.volume, 0.25);
  }
});
