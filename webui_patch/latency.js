// @ts-check
/**
 * How long a person waits: from the end of their speech to the first sound of the reply. Pure.
 *
 * The end of speech is where the voice stopped, not where the server noticed: the pause that ends a
 * turn is part of the wait.
 */

/** A frame this much louder than the quietest of the last seconds has a voice in it. */
const VOICE_RATIO = 4;
/** RMS that is never a voice. */
const SILENCE = 0.003;
/** How fast the idea of the background grows, per second, so that it follows a fan. */
const RISE = 1.3;

export class TurnLatency {
  #floor = 1;
  #lastVoice = NaN;
  #turnEnd = NaN;

  /**
   * A frame was captured.
   *
   * @param {number} level RMS, 0 to 1.
   * @param {number} seconds Its length.
   * @param {number} now Seconds of any clock.
   */
  captured(level, seconds, now) {
    this.#floor = Math.min(level, this.#floor * RISE ** seconds);
    if (level > Math.max(SILENCE, this.#floor * VOICE_RATIO)) this.#lastVoice = now;
  }

  /** @param {number} now The server says that the user's turn has ended. */
  turnEnded(now) {
    this.#turnEnd = Number.isNaN(this.#lastVoice) ? now : this.#lastVoice;
  }

  /**
   * The first sound of a reply left the loudspeaker.
   *
   * @param {number} now
   * @returns {number | null} The wait in seconds; none for a reply that nobody has asked for.
   */
  firstSound(now) {
    const wait = now - this.#turnEnd;
    this.#turnEnd = NaN;
    return wait >= 0 ? wait : null;
  }
}
