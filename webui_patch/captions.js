// @ts-check
/**
 * Who said what, in order, as it is being said. Pure.
 *
 * @typedef {object} Caption
 * @property {string} id Unique within the page.
 * @property {"user" | "assistant"} role
 * @property {string} text
 * @property {boolean} final
 */

/** How many are kept; the conversation has the rest. */
const KEPT = 100;

export class Captions {
  /** @type {Caption[]} */
  #items = [];

  /** @returns {readonly Readonly<Caption>[]} Without those that have no words yet. */
  get items() {
    return this.#items.filter((item) => item.text);
  }

  /**
   * Take a transcript. The first one of an item decides its place, also when it has no words yet:
   * those of the user are often written down after the reply to them has begun.
   *
   * @param {string} sessionId Item ids are unique within a session only.
   * @param {import("./protocol.js").Transcript} transcript
   */
  update(sessionId, { role, item_id: itemId, text, final }) {
    const id = `${sessionId}/${role}/${itemId}`;
    const item = this.#items.find((known) => known.id === id);
    if (item) {
      item.text = text;
      item.final = final;
    } else {
      this.#items.push({ id, role, text, final });
      if (this.#items.length > KEPT) this.#items.shift();
    }
  }

  /** Nothing of what is still being said will be finished. */
  settle() {
    for (const item of this.#items) item.final = true;
  }

  clear() {
    this.#items = [];
  }
}
