// @ts-check
/**
 * What the recorder worklet does with samples: hold them until it is known at which rate they are
 * wanted, then resample them and cut them into PCM16 frames. Pure.
 */
import { levelOf, Resampler, toPcm16 } from "./dsp.js";

const FRAME_SECONDS = 0.02;
const HELD_SECONDS = 30;
/** Samples a held block has: few allocations, and little lost when the oldest goes. */
const BLOCK = 4096;
/**
 * How much faster than real time held audio is worked off. All at once would keep the audio thread
 * from its next deadline, and the microphone's samples would be lost.
 */
const CATCH_UP = 12;

/**
 * @typedef {object} Frame
 * @property {ArrayBuffer} pcm PCM16 little-endian mono.
 * @property {number} level RMS, 0 to 1.
 * @property {number} peak 0 to 1.
 * @property {number} seconds
 */

export class Capture {
  /**
   * @param {number} contextRate
   * @param {(frame: Frame) => void} onFrame
   */
  constructor(contextRate, onFrame) {
    this.#contextRate = contextRate;
    this.#onFrame = onFrame;
  }

  #contextRate;
  #onFrame;

  /** Blocks not yet resampled; the last one may be partly filled. @type {Float32Array[]} */
  #held = [];
  /** Samples in the last block. */
  #filled = 0;
  /** Samples of the first block that are already resampled. */
  #taken = 0;
  #heldSamples = 0;

  #rate = 0;
  /** @type {Resampler | null} */
  #resampler = null;
  #frame = new Int16Array(0);
  #frameFilled = 0;
  #scratch = new Float32Array(0);
  /** Output samples to be made before each flush is done; of this resampler. @type {number[]} */
  #flushes = [];
  /** Of this resampler: samples taken and made, and taken when a flush was last done. */
  #in = 0;
  #out = 0;
  #flushed = 0;

  #captured = 0;
  #lost = 0;
  /** Seconds delivered, so that it stays true when the rate changes. */
  #delivered = 0;

  /** In samples at the rate wanted, or the context's before one is. */
  get stats() {
    const rate = this.#rate || this.#contextRate;
    const scale = rate / this.#contextRate;
    return {
      captured: Math.round(this.#captured * scale),
      delivered: Math.round(this.#delivered * rate),
      lost: Math.round(this.#lost * scale),
    };
  }

  /** How many samples, of the context's rate, have been missed. @param {number} count */
  missed(count) {
    this.#lost += count;
  }

  /**
   * From now on frames are delivered at `rate`, what is held first.
   * @param {number} rate
   * @param {import("./dsp.js").Design} design From the context's rate to this one.
   */
  start(rate, design) {
    const flushing = this.flushing;
    this.#endStream();
    this.#rate = rate;
    this.#resampler = new Resampler(this.#contextRate, rate, design);
    this.#frame = new Int16Array(Math.round(rate * FRAME_SECONDS));
    this.#scratch = new Float32Array(this.#resampler.outputs(BLOCK) + 1);
    this.#in = this.#out = this.#flushed = 0;
    if (flushing) {
      this.flush();
    }
  }

  /** Take what the microphone gave. @param {Float32Array} samples */
  push(samples) {
    this.#captured += samples.length;
    this.#hold(samples);
    if (this.#resampler) {
      this.#work(samples.length * CATCH_UP);
    }
  }

  /**
   * Nothing is taken now: work off what is held, and see a flush through with silence.
   * @param {Float32Array} silence As long as the time that passes.
   */
  idle(silence) {
    if (!this.#resampler) {
      return;
    }
    if (this.#heldSamples > 0) {
      this.#work(silence.length * CATCH_UP);
    } else if (this.flushing) {
      this.push(silence);
    }
  }

  /**
   * Deliver all that has been taken, in a short frame if need be; `flushing` until that is done.
   * The filter lags by some milliseconds, so it takes as much more sound, or silence.
   */
  flush() {
    if (this.#resampler && this.#in + this.#heldSamples > this.#flushed) {
      const due = this.#resampler.outputs(this.#in + this.#heldSamples) + this.#resampler.delay;
      this.#flushes.push(due);
    }
  }

  /** Whether a flush waits. */
  get flushing() {
    return this.#flushes.length > 0;
  }

  /** Deliver what is there, without what only more sound would bring out of the filter. */
  #endStream() {
    if (!this.#resampler) {
      return;
    }
    this.#deliver(this.#resampler.flush());
    this.#cut();
    this.#flushes = [];
  }

  /** @param {Float32Array} samples */
  #hold(samples) {
    for (let from = 0; from < samples.length;) {
      if (this.#held.length === 0 || this.#filled === BLOCK) {
        this.#held.push(new Float32Array(BLOCK));
        this.#filled = 0;
      }
      const part = samples.subarray(from, from + BLOCK - this.#filled);
      this.#held[this.#held.length - 1].set(part, this.#filled);
      this.#filled += part.length;
      from += part.length;
    }
    this.#heldSamples += samples.length;
    while (this.#heldSamples > HELD_SECONDS * this.#contextRate) {
      this.#held.shift();
      this.#lost += BLOCK - this.#taken;
      this.#heldSamples -= BLOCK - this.#taken;
      this.#taken = 0;
    }
  }

  /** Resample up to `budget` held samples. @param {number} budget */
  #work(budget) {
    const resampler = /** @type {Resampler} */ (this.#resampler);
    while (budget > 0 && this.#heldSamples > 0) {
      const last = this.#held.length === 1;
      const available = (last ? this.#filled : BLOCK) - this.#taken;
      const count = Math.min(budget, available);
      const part = this.#held[0].subarray(this.#taken, this.#taken + count);
      const made = resampler.write(part, this.#scratch);
      this.#in += count;
      this.#deliver(this.#scratch.subarray(0, made));
      budget -= count;
      this.#heldSamples -= count;
      this.#taken += count;
      if (this.#taken === BLOCK || (last && this.#taken === this.#filled)) {
        // The only block is used again from its beginning.
        if (last) {
          this.#filled = 0;
        } else {
          this.#held.shift();
        }
        this.#taken = 0;
      }
    }
  }

  /** Put samples into frames. @param {Float32Array} samples */
  #deliver(samples) {
    for (let from = 0; from < samples.length;) {
      const due = this.#flushes.length ? this.#flushes[0] - this.#out : Infinity;
      const room = Math.min(this.#frame.length - this.#frameFilled, due);
      const part = samples.subarray(from, from + room);
      toPcm16(part, this.#frame, this.#frameFilled);
      this.#frameFilled += part.length;
      this.#out += part.length;
      from += part.length;
      if (this.#frameFilled === this.#frame.length || this.#out === this.#flushes[0]) {
        this.#cut();
      }
      while (this.#out === this.#flushes[0]) {
        this.#flushes.shift();
        this.#flushed = this.#in;
      }
    }
  }

  /** Deliver the frame as far as it is filled. */
  #cut() {
    const samples = this.#frame.slice(0, this.#frameFilled);
    if (samples.length > 0) {
      const seconds = samples.length / this.#rate;
      this.#delivered += seconds;
      this.#frameFilled = 0;
      this.#onFrame({ pcm: samples.buffer, ...levelOf(samples), seconds });
    }
  }
}
