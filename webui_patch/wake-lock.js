// @ts-check
/** Keeps the screen awake while it is wanted. Browsers let go whenever the page is hidden. */

export class WakeLock {
  #wanted = false;
  /** @type {WakeLockSentinel | null} */
  #sentinel = null;
  #onVisible = () => void this.#take();

  hold() {
    if (this.#wanted) return;
    this.#wanted = true;
    document.addEventListener("visibilitychange", this.#onVisible);
    void this.#take();
  }

  release() {
    this.#wanted = false;
    document.removeEventListener("visibilitychange", this.#onVisible);
    void this.#sentinel?.release();
    this.#sentinel = null;
  }

  async #take() {
    if (!this.#wanted || document.visibilityState !== "visible" || !navigator.wakeLock) return;
    try {
      const sentinel = await navigator.wakeLock.request("screen");
      if (this.#wanted && (this.#sentinel?.released ?? true)) this.#sentinel = sentinel;
      else void sentinel.release();
    } catch {
      // A low battery, or a browser's rule: voice works with a dark screen too.
    }
  }
}
