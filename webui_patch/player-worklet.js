// @ts-check
/**
 * Plays PCM16 that comes in frames of any size, at any time. All positions are samples of the
 * server's stream.
 *
 * Node: no input, one mono output. `processorOptions`: {streamRate, design}, see dsp.js.
 *
 * To the worklet:
 *   {type: "push", pcm: ArrayBuffer, total}  whole samples; `total`: pushed so far, these included
 *   {type: "begin", position}                the next sample has this position; a reply begins
 *   {type: "clear", position, id}            fall silent; the next sample has this position
 *   {type: "close"}                          fall silent and end
 *
 * From the worklet:
 *   {type: "progress", position, active, quiet, level, seconds, first, time, stats}
 *       every 20 ms of a run, at once with the first sound of a reply, and for a second afterwards
 *       every 100 ms, as the listener is behind the playback head. `active`: a run is played or
 *       about to be; `quiet`: seconds since the last one ended; `level`: RMS of the `seconds` up
 *       to now; `first`: a reply's first sound is in them; `time`: of the context, at their end.
 *   {type: "cleared", id, position, stats}   `position`: where it falls silent
 */
import { Playout } from "./playout.js";

const scope = /** @type {any} */ (globalThis);

const LEVEL_SECONDS = 0.02;
const QUIET_SECONDS = 0.1;
/** How long the listener can be behind, in seconds. */
const AFTERWARDS = 1;

/** @typedef {{streamRate: number, design: import("./dsp.js").Design}} Options */

class PlayerProcessor extends scope.AudioWorkletProcessor {
  /** @param {{processorOptions: Options}} options */
  constructor({ processorOptions: { streamRate, design } }) {
    super();
    this.playout = new Playout(streamRate, scope.sampleRate, design);
    this.quantum = 128;
    this.squares = 0;
    this.samples = 0;
    this.lost = 0;
    this.afterwards = false;
    this.closing = false;
    this.port.onmessage = (/** @type {MessageEvent} */ event) => this.receive(event.data);
  }

  /** @param {any} message */
  receive(message) {
    if (message.type === "push") {
      this.playout.push(new Int16Array(message.pcm));
      this.lost = message.total - this.playout.stats.received;
    } else if (message.type === "begin") {
      this.playout.begin(message.position);
    } else if (message.type === "clear") {
      const position = this.playout.clear(message.position);
      this.afterwards = false;
      this.port.postMessage({ type: "cleared", id: message.id, position, stats: this.stats() });
    } else if (message.type === "close") {
      this.playout.clear(0);
      this.closing = true;
    }
  }

  /** Whether something is played that is to be told; of what is cleared nothing is. */
  get sounding() {
    return this.playout.state === "playing" || this.playout.state === "ending";
  }

  stats() {
    return { ...this.playout.stats, lost: this.lost };
  }

  /** @param {Float32Array[][]} _inputs @param {Float32Array[][]} outputs */
  process(_inputs, outputs) {
    const output = outputs[0][0];
    this.quantum = output.length;
    const sounded = this.sounding;
    const first = this.playout.render(output);
    if (this.closing) {
      return this.playout.busy;
    }
    if (sounded || this.sounding) {
      this.afterwards = true;
      for (let i = 0; i < output.length; i++) {
        this.squares += output[i] * output[i];
      }
    }
    if (this.afterwards) {
      this.samples += output.length;
      const seconds = this.samples / scope.sampleRate;
      const { quiet } = this.playout;
      if (first || seconds >= (quiet > LEVEL_SECONDS ? QUIET_SECONDS : LEVEL_SECONDS)) {
        this.tell(first, seconds, quiet);
      }
      this.afterwards = quiet < AFTERWARDS;
    }
    return true;
  }

  /** @param {boolean} first @param {number} seconds @param {number} quiet */
  tell(first, seconds, quiet) {
    this.port.postMessage({
      type: "progress",
      position: this.playout.position,
      active: this.playout.busy,
      quiet,
      level: Math.sqrt(this.squares / this.samples),
      seconds,
      first,
      time: (scope.currentFrame + this.quantum) / scope.sampleRate,
      stats: this.stats(),
    });
    this.squares = 0;
    this.samples = 0;
  }
}

scope.registerProcessor("gptme-voice-player", PlayerProcessor);
