// @ts-check
/**
 * Keeps the loudspeaker's echo from the server while the browser's echo cancellation does not yet.
 *
 * A browser needs one to two seconds of playback to learn the echo's path. Until then it leaks, at
 * -30 to -55 dB, and the server takes it for the user's voice. So until enough has been played,
 * what is captured while something plays is held for a moment: if a voice rises from it, it leaves
 * as it is, from before its first sound; otherwise as silence. Each frame leaves exactly once, in
 * order, at its length.
 */

/** Seconds of audible playback after which echo cancellation has learned. */
const SETTLING = 2.5;
/** RMS from which playback is audible to a microphone, and teaches. */
const AUDIBLE = 0.003;
/** Seconds for which what was played can be in what is captured: both latencies, and a room. */
const PATH = 0.4;
/** Seconds that are held: what of a voice is there before it is taken for one. */
const HELD = 0.3;
/** A voice is louder than this part of the loudest that was played (-11 dB)... */
const RELATIVE = 0.28;
/** ...or than this, whatever was played (-22 dB of full scale). */
const ABSOLUTE = 0.08;
/** So many of the last frames make a voice: 60 ms, a syllable; one alone is a knock. */
const VOICED = 3;
const RECENT = 4;
/** Seconds of quiet that end an utterance. */
const PAUSE = 0.6;

/** @typedef {import("./capture.js").Frame} Frame */

export class EchoGate {
  /** @param {{enabled?: boolean}} [options] Disabled, it lets everything through. */
  constructor({ enabled = true } = {}) {
    this.#enabled = enabled;
  }

  #enabled;
  /** Seconds of audible playback. */
  #heard = 0;
  /** Captured seconds, the clock of everything here. */
  #clock = 0;
  /** What was played lately. @type {{level: number, until: number}[]} */
  #played = [];
  /** @type {Frame[]} */
  #held = [];
  #heldSeconds = 0;
  /** Whether each of the last frames was loud. @type {boolean[]} */
  #loud = [];
  /** Until when an utterance goes on, by `#clock`. */
  #openUntil = 0;

  /** Whether echo cancellation can be relied on. */
  get settled() {
    return this.#heard >= SETTLING;
  }

  /**
   * Take note of what is played.
   * @param {number} level RMS, 0 to 1, with the volume.
   * @param {number} seconds
   */
  played(level, seconds) {
    if (!this.#enabled || this.settled) {
      this.#played = [];
    } else if (level >= AUDIBLE) {
      this.#heard += seconds;
      this.#played.push({ level, until: this.#clock + seconds + PATH });
    }
  }

  /**
   * Take a captured frame.
   * @param {Frame} frame
   * @returns {Frame[]} What is to be sent now.
   */
  captured(frame) {
    this.#clock += frame.seconds;
    if (!this.#enabled || this.settled) {
      return [...this.drain(), frame];
    }
    this.#played = this.#played.filter(({ until }) => until > this.#clock);
    if (this.#played.length === 0) {
      return [...this.drain(), frame];
    }
    const loudest = Math.max(...this.#played.map(({ level }) => level));
    const loud = frame.level >= Math.min(RELATIVE * loudest, ABSOLUTE);
    this.#loud = [...this.#loud, loud].slice(-RECENT);
    if (this.#loud.filter(Boolean).length >= VOICED || (loud && this.#open)) {
      this.#openUntil = this.#clock + PAUSE;
    }
    if (this.#open) {
      return [...this.#release(), frame];
    }
    this.#held.push(frame);
    this.#heldSeconds += frame.seconds;
    const out = [];
    while (this.#heldSeconds > HELD) {
      const [oldest] = this.#held.splice(0, 1);
      this.#heldSeconds -= oldest.seconds;
      out.push(silent(oldest));
    }
    return out;
  }

  /**
   * Give back what is held: as it is if a voice may just have begun, otherwise as silence.
   * @returns {Frame[]}
   */
  drain() {
    const voiced = this.#loud.length > 0 && this.#loud[this.#loud.length - 1];
    const frames = this.#release();
    this.#loud = [];
    return voiced ? frames : frames.map(silent);
  }

  /**
   * Another microphone, or another way to listen: echo cancellation begins anew.
   * @returns {Frame[]} What was held.
   */
  reset() {
    this.#heard = 0;
    this.#openUntil = 0;
    return this.drain();
  }

  get #open() {
    return this.#clock < this.#openUntil;
  }

  #release() {
    this.#heldSeconds = 0;
    return this.#held.splice(0);
  }
}

/** @param {Frame} frame @returns {Frame} */
function silent(frame) {
  return { ...frame, pcm: new ArrayBuffer(frame.pcm.byteLength), level: 0, peak: 0 };
}
