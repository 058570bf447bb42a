import assert from "node:assert/strict";
import { test } from "node:test";

import { Captions } from "../../webui_patch/captions.js";

const said = (role, itemId, text, final) =>
  ({ type: "transcript", role, item_id: itemId, text, final });

test("a partial caption is replaced in place until it is final", () => {
  const captions = new Captions();
  captions.update("s", said("user", "1", "hel", false));
  captions.update("s", said("assistant", "2", "Hi", false));
  captions.update("s", said("user", "1", "hello", true));
  assert.deepEqual(captions.items.map(({ role, text, final }) => [role, text, final]), [
    ["user", "hello", true],
    ["assistant", "Hi", false],
  ]);
});

test("words that are written down late stand where they were said", () => {
  const captions = new Captions();
  captions.update("s", said("user", "1", "", false));
  captions.update("s", said("assistant", "2", "Hi", true));
  assert.equal(captions.items.length, 1);
  captions.update("s", said("user", "1", "hello", true));
  assert.deepEqual(captions.items.map(({ text }) => text), ["hello", "Hi"]);
});

test("what turns out to be no words disappears", () => {
  const captions = new Captions();
  captions.update("s", said("user", "1", "uh", false));
  captions.update("s", said("user", "1", "", true));
  assert.deepEqual(captions.items, []);
});

test("items of two sessions are different ones", () => {
  const captions = new Captions();
  captions.update("a", said("user", "1", "one", true));
  captions.update("b", said("user", "1", "two", true));
  assert.deepEqual(captions.items.map(({ text }) => text), ["one", "two"]);
});

test("the oldest go first", () => {
  const captions = new Captions();
  for (let i = 0; i < 150; i++) captions.update("s", said("user", `${i}`, `${i}`, true));
  assert.equal(captions.items.length, 100);
  assert.equal(captions.items[0].text, "50");
});

test("nothing stays unfinished after the end", () => {
  const captions = new Captions();
  captions.update("s", said("user", "1", "hel", false));
  captions.settle();
  assert.equal(captions.items[0].final, true);
  captions.clear();
  assert.deepEqual(captions.items, []);
});
