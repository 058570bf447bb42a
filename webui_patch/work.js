// @ts-check
/**
 * How that goes which gptme does for the voice: what was said of it last, and for a while that it
 * is over.
 *
 * @typedef {Pick<import("./protocol.js").ToolStatus, "status" | "text">} WorkStatus
 */

/** How long it is shown that it is over, in milliseconds. */
export const OVER_MS = 8000;

const UNDER_WAY = new Set(["working", "confirm"]);

/** Of one session. */
export class Work {
  /** @type {WorkStatus | null} */
  current = null;

  #onChange;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #fading;

  /** @param {() => void} onChange */
  constructor(onChange) {
    this.#onChange = onChange;
  }

  /** @param {WorkStatus | null} work None: nothing is known of it any more. */
  show(work) {
    this.end();
    this.current = work && { status: work.status, text: work.text };
    if (work && !UNDER_WAY.has(work.status)) {
      this.#fading = setTimeout(() => this.show(null), OVER_MS);
    }
    this.#onChange();
  }

  /** Nothing changes by itself any more. */
  end() {
    clearTimeout(this.#fading);
  }
}
