// @ts-check
/** When to connect again after a connection was lost. Pure. */

const DELAYS_MS = [0, 500, 1000, 2000, 4000, 8000, 8000, 8000, 8000, 8000];
/** A connection that held this long was a good one. */
const STABLE_MS = 20_000;

export class ReconnectPolicy {
  #attempt = 0;
  #since = 0;

  /** @param {number} now Milliseconds of any clock: a connection is ready. */
  succeeded(now) {
    this.#since = now;
  }

  /**
   * A connection, or an attempt at one, was lost.
   *
   * @param {number} now
   * @returns {number | null} Milliseconds to wait before the next attempt; none: give up.
   */
  next(now) {
    if (this.#since && now - this.#since >= STABLE_MS) this.#attempt = 0;
    this.#since = 0;
    return DELAYS_MS[this.#attempt++] ?? null;
  }
}
