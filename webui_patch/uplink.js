// @ts-check
/**
 * The way of captured audio: from the recorder through the echo gate to the server. What cannot be
 * sent yet waits.
 *
 * @typedef {import("./preferences.js").Preferences} Preferences
 *
 * @typedef {object} UplinkOwner
 * @property {(pcm: ArrayBuffer) => boolean} send Whether it took the frame.
 * @property {(level: number, seconds: number) => void} onLevel A frame was captured.
 * @property {(label: string) => void} onDevice
 * @property {(problem: import("./problems.js").Problem) => void} onProblem It is gone.
 */

import { EchoGate } from "./echo-gate.js";
import { Outgoing } from "./outgoing.js";
import { Recorder } from "./recorder.js";

/** What captures and sends as long as a session lasts. */
export class Uplink {
  /** The rate the server takes, in hertz; 0 until it has said. */
  rate = 0;

  #owner;
  #recorder;
  #gate = new EchoGate({ enabled: true });
  #outgoing = new Outgoing();

  /** @param {AudioContext} context @param {UplinkOwner} owner */
  constructor(context, owner) {
    this.#owner = owner;
    this.#recorder = new Recorder({
      context,
      onFrame: (frame) => this.#captured(frame),
      onProblem: owner.onProblem,
      onDevice: (label, settings) => {
        // Another device has another echo.
        this.#give(this.#gate.drain());
        this.#gate = new EchoGate({ enabled: settings.echoCancellation !== false });
        owner.onDevice(label);
      },
    });
  }

  /**
   * Begin to capture; what comes before the server's rate is known is kept.
   *
   * @param {Preferences} preferences @param {AbortSignal} signal
   */
  open(preferences, signal) {
    return this.#recorder.open(wanted(preferences), signal);
  }

  /**
   * Capture as the preferences say now; if that fails, what was in use goes on.
   *
   * @param {Preferences} preferences @param {AbortSignal} signal
   */
  switchTo(preferences, signal) {
    return this.#recorder.switchTo(wanted(preferences), signal);
  }

  /** @param {number} rate Of what is sent from now on, in hertz. */
  start(rate) {
    if (rate === this.rate) return;
    this.rate = rate;
    this.#recorder.start(rate);
  }

  /** Nothing is captured while on. @param {boolean} on */
  set muted(on) {
    this.#recorder.muted = on;
  }

  /** Resolves when all that was captured so far is sent, or waits to be. */
  async settle() {
    await this.#recorder.flush();
    this.#give(this.#gate.drain());
  }

  /** Samples that a connection took with it when it was lost. @param {number} samples */
  lose(samples) {
    this.#outgoing.lost += samples;
  }

  /** Frames of 20 ms that were lost on the way. */
  get lostFrames() {
    const samples = this.#recorder.stats.lost + this.#outgoing.lost;
    return Math.ceil(samples / ((this.rate || 16_000) / 50));
  }

  /** Send what waits. */
  flush() {
    this.#outgoing.drain(this.#owner.send);
  }

  /**
   * The loudspeaker plays.
   *
   * @param {number} level RMS, 0 to 1. @param {number} seconds
   */
  played(level, seconds) {
    this.#gate.played(level, seconds);
  }

  close() {
    this.#recorder.close();
  }

  /** @param {import("./recorder.js").Frame} frame */
  #captured(frame) {
    this.#give(this.#gate.captured(frame));
    this.#owner.onLevel(frame.level, frame.seconds);
  }

  /** @param {import("./recorder.js").Frame[]} frames */
  #give(frames) {
    for (const frame of frames) this.#outgoing.push(frame);
    this.flush();
  }
}

/** @param {Preferences} preferences @returns {import("./microphone.js").MicrophoneOptions} */
export function wanted({ microphone, echoCancellation, noiseSuppression }) {
  return { deviceId: microphone, echoCancellation, noiseSuppression };
}
