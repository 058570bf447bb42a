// @ts-check
/**
 * Captures a microphone; see recorder-worklet.js for what becomes of its samples, here is what the
 * page sees of it.
 */
import { designFilter } from "./dsp.js";
import { openMicrophone, release, watchMicrophone } from "./microphone.js";
import { Problem } from "./problems.js";

export { listDevices, onDevicesChange } from "./microphone.js";

/**
 * @typedef {import("./capture.js").Frame} Frame
 * @typedef {import("./microphone.js").MicrophoneOptions} MicrophoneOptions
 *
 * @typedef {object} RecorderOptions
 * @property {AudioContext} context From `openContext`.
 * @property {(frame: Frame) => void} onFrame 20 ms at the rate of `start`; less at a `flush`.
 * @property {(problem: Problem) => void} onProblem The microphone went away.
 * @property {(label: string, settings: MediaTrackSettings) => void} [onDevice] Which microphone it
 *   is, after it was opened or switched.
 */

/**
 * @typedef {object} Open A microphone in use.
 * @property {MediaStream} stream
 * @property {MediaStreamAudioSourceNode} source
 * @property {{stop: () => void, look: () => Promise<void>}} watch
 */

/**
 * Seconds without a single bit of noise, after which it is looked whether the microphone is still
 * there. Of a Bluetooth headset that is gone Linux does not tell a browser.
 */
const SILENT = 1;

export class Recorder {
  /** @param {RecorderOptions} options */
  constructor({ context, onFrame, onProblem, onDevice = () => {} }) {
    this.#context = context;
    this.#onFrame = onFrame;
    this.#onProblem = onProblem;
    this.#onDevice = onDevice;
  }

  #context;
  #onFrame;
  #onProblem;
  #onDevice;
  /** @type {AudioWorkletNode | null} */
  #node = null;
  /** @type {Open | null} */
  #open = null;
  #closed = false;
  #muted = false;
  /** Counts what was asked for: the last one holds, however long another takes. */
  #wish = 0;
  /** @type {Map<number, () => void>} */
  #flushes = new Map();
  #nextFlush = 1;
  #silent = 0;
  #stats = { captured: 0, delivered: 0, lost: 0 };

  /**
   * Open a microphone. What it hears is held, up to 30 s, until `start`.
   *
   * @param {MicrophoneOptions} options
   * @param {AbortSignal} signal
   */
  async open(options, signal) {
    await this.switchTo(options, signal);
  }

  /**
   * Listen to another microphone, or to this one in another way. If that cannot be had, it goes on
   * as before.
   *
   * @param {MicrophoneOptions} options
   * @param {AbortSignal} signal
   */
  async switchTo(options, signal) {
    const wish = ++this.#wish;
    const stream = await openMicrophone(options, signal);
    if (this.#closed) {
      release(stream);
      throw new DOMException("The recorder was closed.", "AbortError");
    }
    if (wish !== this.#wish) {
      release(stream);
      return;
    }
    let source;
    try {
      source = new MediaStreamAudioSourceNode(this.#context, { mediaStream: stream });
      this.#node ??= this.#makeNode();
      source.connect(this.#node);
    } catch {
      // Some browsers cannot take a microphone of another rate than the context's.
      source?.disconnect();
      release(stream);
      throw new Problem("audio_unsupported");
    }
    const [track] = stream.getAudioTracks();
    track.enabled = !this.#muted;
    this.#dropMicrophone();
    this.#open = { stream, source, watch: watchMicrophone(track, this.#onProblem) };
    this.#silent = 0;
    this.#onDevice(track.label, track.getSettings());
  }

  /**
   * Deliver frames at this rate from now on, what is held first.
   * @param {number} rate In hertz.
   */
  start(rate) {
    const design = designFilter(this.#context.sampleRate, rate);
    this.#post({ type: "start", rate, design });
  }

  /**
   * While muted nothing is captured; what was captured before still comes.
   * @param {boolean} muted
   */
  set muted(muted) {
    if (this.#closed || muted === this.#muted) {
      return;
    }
    this.#muted = muted;
    for (const track of this.#open?.stream.getTracks() ?? []) {
      track.enabled = !muted;
    }
    this.#post({ type: "mute", on: muted });
  }

  get muted() {
    return this.#muted;
  }

  /** Resolves when all that was captured so far has been given to `onFrame`, or cannot be. */
  async flush() {
    if (!this.#node || this.#context.state !== "running") {
      return;
    }
    await new Promise((/** @type {(value?: undefined) => void} */ resolve) => {
      const id = this.#nextFlush++;
      this.#flushes.set(id, resolve);
      this.#post({ type: "flush", id });
    });
  }

  /**
   * In samples at the rate of `start`. `lost`: what the browser skipped, and what was held for too
   * long; as the browser tells it.
   */
  get stats() {
    return { ...this.#stats };
  }

  /** Give everything back. */
  close() {
    if (this.#closed) {
      return;
    }
    this.#closed = true;
    this.#dropMicrophone();
    if (this.#node) {
      this.#post({ type: "close" });
      this.#node.port.onmessage = null;
      this.#node.port.close();
      this.#node.disconnect();
      this.#node = null;
    }
    for (const resolve of this.#flushes.values()) {
      resolve();
    }
    this.#flushes.clear();
  }

  #makeNode() {
    const node = new AudioWorkletNode(this.#context, "gptme-voice-recorder", {
      numberOfInputs: 1,
      numberOfOutputs: 1,
      outputChannelCount: [1],
      channelCount: 1,
      channelCountMode: "explicit",
    });
    node.port.onmessage = (event) => this.#receive(event.data);
    if (this.#muted) {
      node.port.postMessage({ type: "mute", on: true });
    }
    // Silence; a node that leads nowhere is not run by every browser.
    node.connect(this.#context.destination);
    return node;
  }

  #dropMicrophone() {
    if (this.#open) {
      this.#open.watch.stop();
      this.#open.source.disconnect();
      release(this.#open.stream);
      this.#open = null;
    }
  }

  /** @param {object} message */
  #post(message) {
    this.#node?.port.postMessage(message);
  }

  /** @param {any} message */
  #receive(message) {
    if (message.type === "flushed") {
      this.#flushes.get(message.id)?.();
      this.#flushes.delete(message.id);
      return;
    }
    const { pcm, level, peak, seconds, stats } = message;
    this.#stats = stats;
    this.#silent = peak === 0 ? this.#silent + seconds : 0;
    if (this.#silent >= SILENT) {
      this.#silent = 0;
      this.#open?.watch.look();
    }
    this.#onFrame({ pcm, level, peak, seconds });
  }
}
