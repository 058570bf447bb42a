// @ts-check
/**
 * What the player worklet plays: a queue of PCM16 at the stream's rate, resampled continuously to
 * the context's, with a store against late frames and without a click at any edge. Pure.
 *
 * A *run* is what is played without a gap. Positions count samples of the server's stream, and an
 * *index* counts the samples that have come, so that positions may jump.
 */
import { fade, fromPcm16, Resampler } from "./dsp.js";
import { JitterTarget } from "./jitter.js";

/** Seconds of the fades at the begin of a run and where it runs dry. */
const EDGE = 0.003;
/** Seconds of the fade of `clear`; so much is always resampled ahead. */
const CLEAR = 0.005;
/** Stream samples resampled at once. */
const STEP = 128;

/**
 * `buffering` also when there is nothing to buffer; `ending`, and after a clear `clearing`: the
 * faded rest of a run is played, and nothing can be added to it.
 * @typedef {"buffering" | "playing" | "ending" | "clearing"} State
 */

export class Playout {
  /**
   * @param {number} streamRate
   * @param {number} contextRate
   * @param {import("./dsp.js").Design} [design] From the stream's to the context's rate.
   */
  constructor(streamRate, contextRate, design) {
    this.#streamRate = streamRate;
    this.#contextRate = contextRate;
    this.#resampler = new Resampler(streamRate, contextRate, design);
    this.#edge = Math.round(EDGE * contextRate);
    this.#fading = Math.round(CLEAR * contextRate);
    this.#step = new Float32Array(STEP);
  }

  #streamRate;
  #contextRate;
  #resampler;
  #edge;
  #fading;
  #step;
  #jitter = new JitterTarget();

  /** @type {State} */
  #state = "buffering";
  /** Output samples since the beginning. */
  #clock = 0;
  /** When the first of the queued samples came, by `#clock`. */
  #since = 0;
  /** When the last run ended, by `#clock`. */
  #ended = 0;

  /** @type {Int16Array[]} */
  #queue = [];
  /** Samples of the first queued frame that are already taken. */
  #taken = 0;
  /** Stream samples in the queue. */
  #queued = 0;

  /** Resampled, not yet played: `#staged[#from]` to before `#to`. */
  #staged = new Float32Array(8192);
  #from = 0;
  #to = 0;
  /** Of this run: output samples played. */
  #out = 0;
  /** Of this run: the index of its first sample, and of the one after the last it has taken. */
  #first = 0;
  #fed = 0;

  /** Where positions jump, by index; the first entry is the one in force. */
  #marks = [{ index: 0, position: 0, reply: true }];
  /** Whether the silence until the next run is the gap of an underrun. */
  #gap = false;

  #received = 0;
  #played = 0;
  #cleared = 0;
  #underruns = 0;
  #silence = 0;

  get state() {
    return this.#state;
  }

  /** Whether there is, or soon will be, something to hear. */
  get busy() {
    return this.#state !== "buffering" || this.#queued > 0;
  }

  /** Seconds since the last run ended, 0 during one. */
  get quiet() {
    return this.#state === "buffering" ? (this.#clock - this.#ended) / this.#contextRate : 0;
  }

  /** The position of the playback head: of the sample that is played next. */
  get position() {
    return this.#positionOf(this.#head());
  }

  /** The store that playback begins with, in seconds. */
  get target() {
    return this.#jitter.seconds;
  }

  /**
   * All in stream samples, but `underruns` in times and `silence`, what they have inserted, in
   * output samples. `received` = `played` + `cleared` + `queued` at any time.
   */
  get stats() {
    // What fades out after a clear counts as played.
    const head = this.#state === "clearing" ? this.#fed : this.#head();
    const played = this.#played + (this.#state === "buffering" ? 0 : head - this.#first);
    return {
      received: this.#received,
      played,
      cleared: this.#cleared,
      queued: this.#received - played - this.#cleared,
      underruns: this.#underruns,
      silence: this.#silence,
    };
  }

  /** The next sample that comes has this position, and begins a reply. @param {number} position */
  begin(position) {
    this.#mark(position);
  }

  /** Append samples. @param {Int16Array} pcm */
  push(pcm) {
    if (pcm.length === 0) {
      return;
    }
    const replied = this.#received > this.#marks[this.#marks.length - 1].index;
    if (replied && this.#state !== "playing" && this.#queued === 0) {
      this.#gap = true;
      this.#underruns++;
      this.#jitter.underrun(this.quiet);
    }
    if (this.#queued === 0) {
      this.#since = this.#clock;
    }
    this.#queue.push(pcm);
    this.#queued += pcm.length;
    this.#received += pcm.length;
  }

  /**
   * Fade to silence within 5 ms and drop the rest; the next sample that comes has `position`.
   * @param {number} position
   * @returns {number} The position at which it falls silent.
   */
  clear(position) {
    let silentAt = this.#head();
    if (this.#state === "playing") {
      const count = Math.min(this.#fading, this.#to - this.#from);
      fade(this.#staged, this.#from, this.#from + count, true);
      this.#to = this.#from + count;
      silentAt = this.#indexAt(this.#out + count);
      this.#cleared += this.#fed - silentAt;
      this.#fed = silentAt;
      this.#state = "clearing";
    } else if (this.#state !== "buffering") {
      silentAt = this.#fed;
      this.#state = "clearing";
    }
    const heard = this.#positionOf(silentAt);
    this.#cleared += this.#queued;
    this.#queue = [];
    this.#taken = 0;
    this.#queued = 0;
    this.#gap = false;
    this.#mark(position);
    return heard;
  }

  /**
   * Play the next samples.
   * @param {Float32Array} output
   * @returns {boolean} Whether the first sound of a reply is among them.
   */
  render(output) {
    let at = 0;
    let first = false;
    while (at < output.length) {
      if (this.#state === "buffering" && !this.#start()) {
        break;
      }
      if (this.#state === "playing") {
        this.#stage(output.length - at);
      }
      const count = Math.min(output.length - at, this.#to - this.#from);
      output.set(this.#staged.subarray(this.#from, this.#from + count), at);
      this.#advance(count);
      at += count;
      first = this.#firstSound() || first;
    }
    output.fill(0, at);
    this.#clock += output.length - at;
    return first;
  }

  /** Begin a run if there is enough in store, or no more seems to come. */
  #start() {
    const waited = (this.#clock - this.#since) / this.#contextRate;
    const stored = this.#queued / this.#streamRate;
    const target = this.#jitter.seconds;
    if (this.#queued === 0 || (stored < target && waited < 2 * target)) {
      return false;
    }
    this.#jitter.begin();
    this.#resampler.reset();
    this.#from = this.#to = this.#out = 0;
    this.#first = this.#fed = this.#received - this.#queued;
    this.#state = "playing";
    this.#silence += this.#gap ? this.#clock - this.#ended : 0;
    this.#gap = false;
    return true;
  }

  /**
   * Resample until `count` samples can be played and a fade would still find its length.
   * @param {number} count
   */
  #stage(count) {
    if (this.#from > 0) {
      this.#staged.copyWithin(0, this.#from, this.#to);
      this.#to -= this.#from;
      this.#from = 0;
    }
    while (this.#to < count + this.#fading && this.#queued > 0) {
      const frame = this.#queue[0];
      const part = frame.subarray(this.#taken, this.#taken + STEP);
      const samples = fromPcm16(part, this.#step.subarray(0, part.length));
      this.#fadeIn(this.#resampler.write(samples, this.#staged, this.#to));
      this.#queued -= part.length;
      this.#fed += part.length;
      this.#taken += part.length;
      if (this.#taken === frame.length) {
        this.#queue.shift();
        this.#taken = 0;
      }
    }
    if (this.#queued === 0 && this.#to < count + this.#edge) {
      const tail = this.#resampler.flush();
      this.#staged.set(tail, this.#to);
      this.#fadeIn(tail.length);
      fade(this.#staged, Math.max(0, this.#to - this.#edge), this.#to, true);
      this.#state = "ending";
    }
  }

  /**
   * Take note of `count` samples more in stage; the first of a run that the filter lets through
   * come from silence.
   * @param {number} count
   */
  #fadeIn(count) {
    let n = this.#out + this.#to - this.#resampler.delay;
    const end = this.#to + count;
    for (let i = this.#to; i < end && n < this.#edge; i++, n++) {
      this.#staged[i] *= n < 0 ? 0 : 0.5 - 0.5 * Math.cos((Math.PI * n) / this.#edge);
    }
    this.#to = end;
  }

  /** @param {number} count Output samples that were played. */
  #advance(count) {
    this.#from += count;
    this.#out += count;
    this.#clock += count;
    this.#jitter.played(count / this.#contextRate);
    const rest = this.#state === "ending" || this.#state === "clearing";
    if (rest && this.#from === this.#to) {
      this.#played += this.#fed - this.#first;
      this.#first = this.#fed;
      this.#ended = this.#clock;
      this.#state = "buffering";
    }
  }

  /** The index of the sample that is played next. */
  #head() {
    return this.#state === "buffering"
      ? this.#received - this.#queued
      : this.#indexAt(this.#out);
  }

  /** @param {number} out Output samples of this run. */
  #indexAt(out) {
    const index = this.#first + this.#resampler.inputAt(out);
    return Math.max(this.#first, Math.min(this.#fed, index));
  }

  /** @param {number} index */
  #positionOf(index) {
    let mark = this.#marks[0];
    for (const other of this.#marks) {
      mark = other.index <= index ? other : mark;
    }
    return mark.position + index - mark.index;
  }

  /** @param {number} position Of the next sample that comes. */
  #mark(position) {
    const index = this.#received;
    this.#marks = this.#marks.filter((mark) => mark.index < index);
    this.#marks.push({ index, position, reply: true });
  }

  /** Whether a reply's first sample has been played since the last time. */
  #firstSound() {
    let first = false;
    const head = this.#head();
    for (const mark of this.#marks) {
      if (mark.reply && head > mark.index) {
        mark.reply = false;
        first = true;
      }
    }
    while (this.#marks.length > 1 && this.#marks[1].index <= head) {
      this.#marks.shift();
    }
    return first;
  }
}
