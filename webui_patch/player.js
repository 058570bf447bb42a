// @ts-check
/**
 * Plays the server's audio; see player-worklet.js for how, here is what the page sees of it.
 */
import { elapsed, outputLatency, speakerNode } from "./audio-context.js";
import { designFilter } from "./dsp.js";
import { Problem } from "./problems.js";

/** Seconds between two reports of progress. */
const PROGRESS = 0.1;
/** Time constant of a change of volume, in seconds. */
const SMOOTH = 0.015;
/** What an output may be late, in seconds; the worklet reports a second of silence at most. */
const LATENCY = 0.8;
/** Seconds of the context's clock that the worklet needs to fade out. */
const ENDING = 0.03;

/**
 * @typedef {object} Progress
 * @property {number} position Of the playback head, in samples of the server's stream.
 * @property {number} heard What the listener has heard, which is later; never goes back.
 * @property {boolean} playing Whether something is, or is about to be, heard.
 * @property {number} level RMS of what was played since the last report, 0 to 1, with the volume.
 * @property {true} [firstSound] A reply's first sound is in it.
 * @property {number} time Of the context, in seconds, when the head was at `position`.
 */

/**
 * @typedef {object} PlayerOptions
 * @property {AudioContext} context From `openContext`.
 * @property {(progress: Progress) => void} onProgress Every 100 ms while playing, at once with a
 *   reply's first sound, and once at the end, with `heard` at `position` and `playing` false.
 * @property {(level: number, seconds: number) => void} [onLevel] Every 20 ms while playing: RMS of
 *   the last `seconds`, with the volume. It comes before the sound does.
 * @property {number} [volume] 0 to 1.
 */

/** @typedef {{atSample: number, resolve: (position: number) => void}} Clear */

export class Player {
  /** @param {PlayerOptions} options */
  constructor({ context, onProgress, onLevel = () => {}, volume = 1 }) {
    this.#context = context;
    this.#onProgress = onProgress;
    this.#onLevel = onLevel;
    this.#volume = volume;
  }

  #context;
  #onProgress;
  #onLevel;
  #volume;
  #rate = 0;
  /** @type {AudioWorkletNode | null} */
  #node = null;
  /** @type {GainNode | null} */
  #gain = null;
  #closed = false;
  /** The first half of a sample. @type {number | null} */
  #odd = null;
  #pushed = 0;
  /** Those that wait for their answer. @type {Map<number, Clear>} */
  #clears = new Map();
  #nextClear = 1;
  #position = 0;
  #heard = 0;
  #playing = false;
  /** Since the last report. */
  #squares = 0;
  #seconds = 0;
  #stats = {
    received: 0, played: 0, cleared: 0, queued: 0, underruns: 0, silence: 0, lost: 0,
  };

  /**
   * @param {number} sampleRate Of the server's stream.
   * @param {AbortSignal} signal
   */
  async open(sampleRate, signal) {
    signal.throwIfAborted();
    if (this.#closed || this.#node) {
      throw new Error("A player is opened once.");
    }
    this.#rate = sampleRate;
    const context = this.#context;
    let design;
    try {
      design = designFilter(sampleRate, context.sampleRate);
    } catch {
      throw new Problem("audio_unsupported");
    }
    this.#node = new AudioWorkletNode(context, "gptme-voice-player", {
      numberOfInputs: 0,
      numberOfOutputs: 1,
      outputChannelCount: [1],
      processorOptions: { streamRate: sampleRate, design },
    });
    this.#gain = new GainNode(context, { gain: this.#volume });
    this.#node.port.onmessage = (event) => this.#receive(event.data);
    this.#node.connect(this.#gain).connect(speakerNode(context));
  }

  /** The next sample has this position; it begins a reply. @param {number} fromSample */
  begin(fromSample) {
    this.#odd = null;
    this.#post({ type: "begin", position: fromSample });
  }

  /**
   * Play PCM16. The buffer is taken over; a half sample at its end waits for the next one.
   * @param {ArrayBuffer} pcm
   */
  push(pcm) {
    const whole = this.#whole(pcm);
    if (whole.byteLength > 0 && this.#node) {
      this.#pushed += whole.byteLength / 2;
      this.#post({ type: "push", pcm: whole, total: this.#pushed }, [whole]);
    }
  }

  /**
   * Fall silent, and drop what is queued. Nothing is reported to `onProgress` from now until it is
   * done, and then, before this resolves, the position at which it fell silent.
   *
   * @param {number} atSample The position of the next sample that is pushed.
   * @returns {Promise<number>} The position at which it fell silent.
   */
  clear(atSample) {
    this.#odd = null;
    if (!this.#node) {
      return Promise.resolve(this.#position);
    }
    return new Promise((resolve) => {
      const id = this.#nextClear++;
      this.#clears.set(id, { atSample, resolve });
      this.#post({ type: "clear", position: atSample, id });
    });
  }

  /** @param {number} volume 0 to 1. */
  set volume(volume) {
    this.#volume = Math.max(0, Math.min(1, volume));
    const now = this.#context.currentTime;
    this.#gain?.gain.setTargetAtTime(this.#volume, now, SMOOTH);
  }

  get volume() {
    return this.#volume;
  }

  /** In samples of the stream; `underruns` in times, `silence` (theirs) in the context's. */
  get stats() {
    const { received, queued } = this.#stats;
    return { ...this.#stats, received: this.#pushed, queued: queued + this.#pushed - received };
  }

  /** Fall silent, then give everything back. */
  close() {
    if (this.#closed) {
      return;
    }
    this.#closed = true;
    const node = this.#node;
    const gain = this.#gain;
    this.#post({ type: "close" });
    this.#node = this.#gain = null;
    for (const { resolve } of this.#clears.values()) {
      resolve(this.#position);
    }
    this.#clears.clear();
    if (node && gain) {
      node.port.onmessage = null;
      const free = () => {
        node.disconnect();
        gain.disconnect();
        node.port.close();
      };
      if (this.#context.state === "running") {
        elapsed(this.#context, ENDING).then(free);
      } else {
        free();
      }
    }
  }

  /** @param {object} message @param {Transferable[]} [transfer] */
  #post(message, transfer = []) {
    this.#node?.port.postMessage(message, transfer);
  }

  /** @param {ArrayBuffer} pcm @returns {ArrayBuffer} Whole samples. */
  #whole(pcm) {
    if (this.#odd === null && pcm.byteLength % 2 === 0) {
      return pcm;
    }
    const bytes = new Uint8Array(pcm);
    const before = this.#odd === null ? [] : [this.#odd];
    const all = new Uint8Array(before.length + bytes.length);
    all.set(before);
    all.set(bytes, before.length);
    this.#odd = all.length % 2 ? all[all.length - 1] : null;
    return all.buffer.slice(0, all.length - (all.length % 2));
  }

  /** @param {any} message */
  #receive(message) {
    this.#stats = message.stats;
    if (message.type === "cleared") {
      this.#cleared(message.id, message.position);
      return;
    }
    const { level, seconds, quiet, active } = message;
    if (quiet < 2 * PROGRESS) {
      this.#onLevel(level * this.#volume, seconds);
    }
    if (this.#clears.size > 0) {
      return;
    }
    const late = outputLatency(this.#context);
    const behind = Math.max(0, Math.min(late, LATENCY) - quiet) * this.#rate;
    this.#position = message.position;
    this.#heard = Math.max(this.#heard, Math.floor(this.#position - behind));
    this.#squares += level * level * seconds;
    this.#seconds += seconds;
    const playing = active || this.#heard < this.#position;
    const due = this.#seconds >= PROGRESS - 0.001 || message.first || playing !== this.#playing;
    if (due && (playing || this.#playing)) {
      this.#playing = playing;
      this.#report({
        level: Math.sqrt(this.#squares / this.#seconds) * this.#volume,
        time: message.time,
        playing,
        first: message.first,
      });
    }
  }

  /** @param {number} id @param {number} position Where it fell silent. */
  #cleared(id, position) {
    const clear = this.#clears.get(id);
    if (clear) {
      this.#clears.delete(id);
      this.#position = this.#heard = position;
      this.#report({ level: 0, time: this.#context.currentTime, playing: false });
      this.#position = this.#heard = clear.atSample;
      clear.resolve(position);
    }
  }

  /** @param {{level: number, time: number, playing: boolean, first?: boolean}} what */
  #report({ level, time, playing, first }) {
    this.#squares = this.#seconds = 0;
    this.#playing = playing;
    this.#onProgress({
      position: this.#position,
      heard: this.#heard,
      playing,
      level,
      time,
      ...(first ? { firstSound: /** @type {const} */ (true) } : {}),
    });
  }
}
