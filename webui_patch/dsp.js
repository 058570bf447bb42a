// @ts-check
/**
 * Signal processing of the recorder and the player: pure, the same in a page, a worklet and Node.
 */

/** What the Kaiser window is designed for, in dB; it fixes the ripple of the pass band, too. */
const STOP_BAND_DB = 94;
/** Upper edge of the pass band, as a part of the lower of both Nyquist frequencies. */
const PASS_BAND = 0.885;
/** Samples taken at once: a bound on the buffer, without influence on the output. */
const BLOCK = 1024;
/** Above this many coefficients the pair of rates is odd enough to be a mistake. */
const MAX_COEFFICIENTS = 1 << 20;

/**
 * A polyphase low pass for one pair of rates. Making one takes milliseconds: make it in the page
 * and post it to the worklet, whose thread has three to spare.
 *
 * @typedef {object} Design
 * @property {number} up Interpolation: the output rate, reduced.
 * @property {number} down Decimation: the input rate, reduced.
 * @property {number} taps Coefficients a phase; 0 for equal rates, which pass unchanged.
 * @property {number} delay Of the filter, in whole output samples.
 * @property {Float32Array} table Phase by phase, the coefficient of the oldest sample first.
 */

/** @param {number} a @param {number} b @returns {number} */
function gcd(a, b) {
  return b === 0 ? a : gcd(b, a % b);
}

/** The modified Bessel function of the first kind, of order zero. @param {number} x */
function bessel(x) {
  let term = 1;
  let sum = 1;
  for (let k = 1; term > 1e-12 * sum; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

/**
 * Design the filter from one rate to another, both whole numbers of hertz.
 *
 * The stop band begins at the lower Nyquist frequency, so nothing folds back.
 *
 * @param {number} inputRate
 * @param {number} outputRate
 * @returns {Design}
 */
export function designFilter(inputRate, outputRate) {
  if (!(Number.isInteger(inputRate) && Number.isInteger(outputRate)) ||
      Math.min(inputRate, outputRate) < 1) {
    throw new RangeError(`Sample rates are whole numbers, not ${inputRate} and ${outputRate}.`);
  }
  const divisor = gcd(inputRate, outputRate);
  const up = outputRate / divisor;
  const down = inputRate / divisor;
  if (up === down) {
    return { up, down, taps: 0, delay: 0, table: new Float32Array(0) };
  }
  const nyquist = Math.min(inputRate, outputRate) / 2;
  // Kaiser's estimate of the length, in seconds (Oppenheim and Schafer, section 7.5.3).
  const seconds = (STOP_BAND_DB - 7.95) / (2.285 * 2 * Math.PI * (1 - PASS_BAND) * nyquist);
  // A whole number of output samples, so that positions stay exact.
  const delay = Math.ceil((seconds * outputRate) / 2);
  const middle = delay * down;
  const taps = Math.ceil((2 * middle + 1) / up);
  if (taps * up > MAX_COEFFICIENTS) {
    throw new RangeError(`No filter from ${inputRate} to ${outputRate} Hz: odd rates.`);
  }
  const beta = 0.1102 * (STOP_BAND_DB - 8.7);
  const cutoff = ((1 + PASS_BAND) * nyquist) / (inputRate * up);
  const table = new Float32Array(taps * up);
  for (let phase = 0; phase < up; phase++) {
    const end = (phase + 1) * taps - 1;
    let sum = 0;
    for (let tap = 0; tap < taps; tap++) {
      const distance = tap * up + phase - middle;
      if (Math.abs(distance) > middle) {
        continue;
      }
      const angle = Math.PI * cutoff * distance;
      const sinc = distance === 0 ? 1 : Math.sin(angle) / angle;
      const value = sinc * bessel(beta * Math.sqrt(1 - (distance / middle) ** 2));
      table[end - tap] = value;
      sum += value;
    }
    // Unit gain for every phase by itself, or a constant would come out as a tone.
    for (let tap = 0; tap < taps; tap++) {
      table[end - tap] /= sum;
    }
  }
  return { up, down, taps, delay, table };
}

/**
 * Converts one stream of samples to another rate.
 *
 * After n samples it has given exactly `outputs(n)` = ceil(n * up / down), however they were cut:
 * the input, `delay` output samples late, after silence. Each output is the same sum in the same
 * order whatever the cut, so it has the same bits.
 */
export class Resampler {
  /**
   * @param {number} inputRate
   * @param {number} outputRate
   * @param {Design} [design] What `designFilter` gave for these rates.
   */
  constructor(inputRate, outputRate, design = designFilter(inputRate, outputRate)) {
    this.#design = design;
    this.#history = Math.max(0, design.taps - 1);
    this.#buffer = new Float32Array(this.#history + BLOCK);
  }

  /** @type {Design} */
  #design;
  /** How many samples before the newest an output can need. */
  #history;
  /** @type {Float32Array} */
  #buffer;
  /** Where in `#buffer` after the history the next output's newest sample is. */
  #next = 0;
  #phase = 0;

  /** By how many output samples the output is late. */
  get delay() {
    return this.#design.delay;
  }

  /** How many samples have come out in total after `count` went in. @param {number} count */
  outputs(count) {
    return Math.ceil((count * this.#design.up) / this.#design.down);
  }

  /**
   * The input sample that is the newest in full strength after `count` outputs, counted from the
   * start; negative within the delay.
   * @param {number} count
   */
  inputAt(count) {
    return Math.floor(((count - this.#design.delay) * this.#design.down) / this.#design.up);
  }

  /**
   * Take samples, write what they give, and return how many that is.
   *
   * @param {Float32Array} input
   * @param {Float32Array} output Has room for `outputs(input.length) + 1` at `at`.
   * @param {number} [at]
   * @returns {number}
   */
  write(input, output, at = 0) {
    const { up, down, taps, table } = this.#design;
    if (taps === 0) {
      output.set(input, at);
      return input.length;
    }
    const buffer = this.#buffer;
    const history = this.#history;
    const begin = at;
    for (let from = 0; from < input.length; from += BLOCK) {
      const block = input.subarray(from, from + BLOCK);
      buffer.set(block, history);
      let next = this.#next;
      let phase = this.#phase;
      while (next < block.length) {
        let sum = 0;
        const row = phase * taps;
        for (let tap = 0; tap < taps; tap++) {
          sum += table[row + tap] * buffer[next + tap];
        }
        output[at++] = sum;
        phase += down;
        next += Math.floor(phase / up);
        phase %= up;
      }
      this.#next = next - block.length;
      this.#phase = phase;
      buffer.copyWithin(0, block.length, block.length + history);
    }
    return at - begin;
  }

  /**
   * Take samples and return what they give, in an array of its own.
   * @param {Float32Array} input
   */
  process(input) {
    const output = new Float32Array(this.outputs(input.length) + 1);
    return output.subarray(0, this.write(input, output));
  }

  /**
   * End the stream: return the `delay` samples that are still in the filter, and begin anew.
   * Without a sample since the last end there is nothing to flush, and `delay` zeros come.
   */
  flush() {
    const { up, down, delay } = this.#design;
    const silence = new Float32Array(Math.ceil(((delay + 1) * down) / up));
    const tail = this.process(silence).subarray(0, delay);
    this.reset();
    return tail;
  }

  /** Forget the stream; the next sample is the first of another one. */
  reset() {
    this.#buffer.fill(0);
    this.#next = 0;
    this.#phase = 0;
  }
}

/**
 * Convert samples from -1 to 1 into PCM16 of the platform (little-endian everywhere browsers run);
 * what is beyond full scale is clamped.
 *
 * @param {Float32Array} samples
 * @param {Int16Array} [into]
 * @param {number} [at]
 */
export function toPcm16(samples, into = new Int16Array(samples.length), at = 0) {
  for (let i = 0; i < samples.length; i++) {
    into[at + i] = Math.max(-32768, Math.min(32767, Math.round(samples[i] * 32768)));
  }
  return into;
}

/**
 * Convert PCM16 into samples from -1 to 1.
 *
 * @param {Int16Array} pcm
 * @param {Float32Array} [into]
 */
export function fromPcm16(pcm, into = new Float32Array(pcm.length)) {
  for (let i = 0; i < pcm.length; i++) {
    into[i] = pcm[i] / 32768;
  }
  return into;
}

/** The RMS level and the peak, 0 to 1, of PCM16. @param {Int16Array} pcm */
export function levelOf(pcm) {
  let squares = 0;
  let peak = 0;
  for (let i = 0; i < pcm.length; i++) {
    squares += pcm[i] * pcm[i];
    peak = Math.max(peak, Math.abs(pcm[i]));
  }
  return { level: Math.sqrt(squares / Math.max(1, pcm.length)) / 32768, peak: peak / 32768 };
}

/**
 * Multiply a stretch by half a period of a cosine, which begins and ends without a corner.
 *
 * @param {Float32Array} samples
 * @param {number} from First sample of the fade.
 * @param {number} to The one after its last.
 * @param {boolean} out Whether it fades to silence, which the last sample is; else from silence.
 */
export function fade(samples, from, to, out) {
  const count = to - from;
  for (let i = 0; i < count; i++) {
    const rise = 0.5 - 0.5 * Math.cos((Math.PI * (out ? count - 1 - i : i)) / count);
    samples[from + i] *= rise;
  }
}
