// @ts-check
/**
 * When the page goes to the conversation that was made for a session.
 *
 * The web UI reads a conversation and begins to follow it some tenths of a second later: what is
 * written between the two it does not show until it is loaded again. So it goes there when nothing
 * is about to be written: a reply is when it has been heard, and the user's turn at once.
 *
 * @typedef {Pick<import("../session.js").VoiceSession, "state" | "active" | "work">} Progress
 */

/** How long what was said may take to be written, in milliseconds. */
export const WRITTEN_MS = 400;
/** How long the way there is put off for a reply, in milliseconds: it may be a long one. */
export const PATIENCE_MS = 4000;

export class Arrival {
  #go;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** Whether it waits for a reply. */
  #waiting = false;

  /** @param {() => void} go */
  constructor(go) {
    this.#go = go;
  }

  /** There is somewhere to go. @param {Progress} session */
  due(session) {
    this.#waiting = true;
    this.#goIn(PATIENCE_MS);
    this.follow(session);
  }

  /** Something has changed. @param {Progress} session */
  follow({ state, active, work }) {
    if (!this.#waiting || !(state === "listening" || work || !active)) return;
    this.#waiting = false;
    this.#goIn(WRITTEN_MS);
  }

  /** @param {number} milliseconds */
  #goIn(milliseconds) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#waiting = false;
      this.#go();
    }, milliseconds);
  }
}
