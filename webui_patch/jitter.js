// @ts-check
/**
 * How much audio to have in store before playback begins, so that late frames are not heard as
 * gaps: little at first, more once a gap has shown how late they come, then slowly less again.
 */

/** In seconds: four 20 ms frames less a little, unheard in a conversation. */
const START = 0.07;
const CAP = 0.4;
/** Beside what the gap has shown, as the next frame may be a little later still. */
const MARGIN = 0.02;
/** Longer gaps are pauses of whoever makes the audio: no store would bridge them. */
const PAUSE = 1;
/** Seconds of store given back in a second of playback: from the cap to the start in a minute. */
const FALL = 0.005;

export class JitterTarget {
  #seconds = START;
  /** The store that playback last began with: the target may have fallen since. */
  #begun = START;

  /** The store to begin with, in seconds. */
  get seconds() {
    return this.#seconds;
  }

  /** Playback begins, with that much in store. */
  begin() {
    this.#begun = this.#seconds;
  }

  /**
   * Playback ran dry, and `late` seconds afterwards more came.
   * @param {number} late
   */
  underrun(late) {
    if (late < PAUSE) {
      this.#seconds = Math.max(this.#seconds, Math.min(CAP, this.#begun + late + MARGIN));
    }
  }

  /**
   * So much was played without running dry.
   * @param {number} seconds
   */
  played(seconds) {
    this.#seconds = Math.max(START, this.#seconds - FALL * seconds);
  }
}
