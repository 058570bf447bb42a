// @ts-check
/**
 * Takes what the microphone hears, whatever the context's rate, and gives it as PCM16 in frames of
 * 20 ms at the rate that is asked for. Until one is, it holds up to 30 s.
 *
 * Node: one mono input, one silent output (a node without one is not run by every browser).
 *
 * To the worklet:
 *   {type: "start", rate, design}  deliver at this rate from now on, what is held first; see dsp.js
 *   {type: "mute", on}             nothing is taken while on; what was taken before is delivered
 *   {type: "flush", id}            answer when all that was taken so far is delivered
 *   {type: "close"}                end
 *
 * From the worklet:
 *   {type: "frame", pcm: ArrayBuffer, level, peak, seconds, stats}
 *       `level` RMS and `peak`, 0 to 1; `stats`: {captured, delivered, lost} in samples at `rate`
 *   {type: "flushed", id}
 */
import { Capture } from "./capture.js";

const scope = /** @type {any} */ (globalThis);

class RecorderProcessor extends scope.AudioWorkletProcessor {
  constructor() {
    super();
    this.capture = new Capture(scope.sampleRate, (frame) => {
      const message = { type: "frame", ...frame, stats: this.capture.stats };
      this.port.postMessage(message, [frame.pcm]);
    });
    this.muted = false;
    this.closed = false;
    /** The frame of the context that comes next; 0 when none is expected. */
    this.expected = 0;
    /** Whether that is the second one since none was. */
    this.second = false;
    /** @type {number[]} */
    this.flushes = [];
    this.silence = new Float32Array(128);
    this.port.onmessage = (/** @type {MessageEvent} */ event) => this.receive(event.data);
  }

  /** @param {any} message */
  receive(message) {
    if (message.type === "start") {
      this.capture.start(message.rate, message.design);
      this.answer();
    } else if (message.type === "mute") {
      this.muted = message.on;
      this.expected = 0;
    } else if (message.type === "flush") {
      this.capture.flush();
      this.flushes.push(message.id);
      this.answer();
    } else if (message.type === "close") {
      this.closed = true;
    }
  }

  /** @param {Float32Array[][]} inputs */
  process(inputs) {
    if (this.closed) {
      return false;
    }
    const input = inputs[0][0];
    if (input && !this.muted) {
      if (this.expected !== 0) {
        const missed = scope.currentFrame - this.expected;
        // Chromium may still tell a block the frame of the one before: that is made good with the
        // next block, but for the first, which would look as if one had been missed after it.
        if (!this.second || missed !== input.length) this.capture.missed(missed);
      }
      this.second = this.expected === 0;
      this.expected = scope.currentFrame + input.length;
      this.capture.push(input);
    } else {
      // Muted, or between two microphones: there is nothing to miss.
      this.expected = 0;
      this.capture.idle(this.silence);
    }
    this.answer();
    return true;
  }

  /** Answer the flushes that are done. */
  answer() {
    if (!this.capture.flushing) {
      for (const id of this.flushes.splice(0)) {
        this.port.postMessage({ type: "flushed", id });
      }
    }
  }
}

scope.registerProcessor("gptme-voice-recorder", RecorderProcessor);
