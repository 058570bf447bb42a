// @ts-check
/** Captured audio on its way to the server; what cannot be sent yet waits: no word is lost. */

/** How much may wait, in seconds: as long as the server would keep it. */
const KEPT_SECONDS = 30;

export class Outgoing {
  /** @type {{pcm: ArrayBuffer, seconds: number}[]} */
  #frames = [];
  #seconds = 0;
  /** Samples that had to be thrown away. */
  lost = 0;

  /** @param {{pcm: ArrayBuffer, seconds: number}} frame */
  push(frame) {
    this.#frames.push(frame);
    this.#seconds += frame.seconds;
    while (this.#seconds > KEPT_SECONDS && this.#frames.length > 1) {
      const dropped = /** @type {{pcm: ArrayBuffer, seconds: number}} */ (this.#frames.shift());
      this.#seconds -= dropped.seconds;
      this.lost += dropped.pcm.byteLength / 2;
    }
  }

  /** @param {(pcm: ArrayBuffer) => boolean} send Whether it took the frame. */
  drain(send) {
    while (this.#frames.length && send(this.#frames[0].pcm)) {
      this.#seconds -= this.#frames[0].seconds;
      this.#frames.shift();
    }
  }
}
