// @ts-check
/**
 * Live captions of both sides. A caption that is still being said changes in place; a screen reader
 * is told each one once, when it is settled.
 */

import { h, setAttribute, setText } from "./dom.js";

/** @typedef {import("../captions.js").Caption} Caption */

const NAMES = { user: "You", assistant: "gptme" };
/** How far from the end counts as reading the newest, in pixels. */
const NEAR = 24;

export class CaptionList {
  /** @type {Map<string, {row: HTMLElement, text: HTMLElement}>} */
  #rows = new Map();
  /** @type {Set<string>} */
  #announced = new Set();
  /** Whether the newest is being read. */
  #follow = true;

  constructor() {
    this.list = h("ol", {
      // What scrolls has to be reached by keyboard.
      class: "gptme-voice-captions", tabIndex: 0, "aria-label": "Captions",
    });
    this.list.addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = this.list;
      this.#follow = scrollHeight - scrollTop - clientHeight < NEAR;
    });
    this.announcer = h("div", { class: "gptme-voice-sr", role: "log", "aria-live": "polite" });
    this.element = h("div", {}, this.list, this.announcer);
  }

  /** @param {readonly Readonly<Caption>[]} captions */
  show(captions) {
    const { list } = this;
    const ids = new Set(captions.map(({ id }) => id));
    for (const [id, { row }] of this.#rows) {
      if (ids.has(id)) continue;
      row.remove();
      this.#rows.delete(id);
    }
    captions.forEach((caption, index) => {
      const { row, text } = this.#rows.get(caption.id) ?? this.#add(caption);
      if (list.children[index] !== row) list.insertBefore(row, list.children[index] ?? null);
      setText(text, caption.text);
      setAttribute(row, "data-final", String(caption.final));
      if (caption.final) this.#announce(caption);
    });
    if (!captions.length) {
      this.#announced.clear();
      this.announcer.replaceChildren();
    }
    if (this.#follow) list.scrollTop = list.scrollHeight;
  }

  /** The list has been put elsewhere, which scrolls it to its beginning. */
  moved() {
    this.#follow = true;
    this.list.scrollTop = this.list.scrollHeight;
  }

  /** @param {Caption} caption */
  #add({ id, role }) {
    const text = h("span", { class: "gptme-voice-said" });
    const row = h("li", { "data-role": role }, h("b", {}, `${NAMES[role]}: `), text);
    const entry = { row, text };
    this.#rows.set(id, entry);
    return entry;
  }

  /** @param {Caption} caption */
  #announce({ id, role, text }) {
    if (this.#announced.has(id)) return;
    this.#announced.add(id);
    this.announcer.append(h("p", {}, `${NAMES[role]}: ${text}`));
    while (this.announcer.children.length > 4) this.announcer.firstElementChild?.remove();
  }
}
