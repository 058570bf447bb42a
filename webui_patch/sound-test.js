// @ts-check
/**
 * "Test microphone and speaker": what is said comes back through the server's echo backend, and a
 * verdict says what worked. It takes the way a session takes, so what works here works there.
 *
 * @typedef {"starting" | "speak" | "playing" | "done"} Step
 */

import { chooseSpeaker, openContext, restContext } from "./audio-context.js";
import { Connection } from "./connection.js";
import { Player } from "./player.js";
import { asProblem, Problem } from "./problems.js";
import { Recorder } from "./recorder.js";
import { admission, diagnose } from "./servers.js";
import { wanted } from "./uplink.js";

/** How long it listens for a voice, in seconds of captured audio. */
const LISTEN_SECONDS = 10;
/** How long all of it may take, in milliseconds: a microphone may capture nothing at all. */
const LIMIT_MS = 60_000;
/** RMS below which a microphone gives no sound at all. */
const DEAD = 0.0001;
/** RMS that a voice reaches close to a microphone. */
const QUIET = 0.01;

export const VERDICTS = Object.freeze({
  good: "Microphone and speaker work: you were heard, and what you said was played back.",
  quiet:
    "You were heard, but very quietly; turn the microphone up, or come closer to it.",
  dead:
    "The microphone gives no sound at all; a switch or the system's settings may have muted it.",
  unplayed:
    "You were heard, but nothing was played back in time; choose another speaker, and try again.",
  unheard:
    "No voice was heard; speak louder, turn the microphone up, or choose another one.",
});

/** Fires `change`. */
export class SoundTest extends EventTarget {
  /** @type {Step} */
  step = "done";
  /** One of VERDICTS, or a problem's sentence; empty while it runs. */
  verdict = "";
  good = false;
  /** RMS of this moment, 0 to 1. */
  level = 0;

  #preferences;
  #onMicrophone;
  /** @type {AbortController | null} */
  #run = null;
  /** @type {(() => void)[]} */
  #cleanups = [];
  #listened = 0;
  #loudest = 0;

  /**
   * @param {import("./preferences.js").PreferenceStore} preferences
   * @param {() => void} onMicrophone A microphone was opened.
   */
  constructor(preferences, onMicrophone) {
    super();
    this.#preferences = preferences;
    this.#onMicrophone = onMicrophone;
  }

  get running() {
    return this.#run !== null;
  }

  /** @param {import("./servers.js").Server} server */
  async start(server) {
    if (this.#run) return;
    const run = (this.#run = new AbortController());
    this.verdict = "";
    this.good = false;
    this.level = this.#listened = this.#loudest = 0;
    this.#set("starting");
    const limit = setTimeout(() => {
      const verdict = this.step === "playing" ? VERDICTS.unplayed : VERDICTS.dead;
      this.#end(run, verdict, false);
    }, LIMIT_MS);
    this.#cleanups.push(() => clearTimeout(limit));
    try {
      await this.#open(run, server);
    } catch (error) {
      this.#fail(run, error);
    }
  }

  /** Give up without a verdict; harmless when none runs. */
  stop() {
    if (this.#run) this.#end(this.#run, "", false);
  }

  /** @param {AbortController} run @param {import("./servers.js").Server} server */
  async #open(run, server) {
    const { signal } = run;
    const { current } = this.#preferences;
    const context = await openContext(signal);
    this.#cleanups.push(() => void restContext());
    const recorder = new Recorder({
      context,
      onFrame: (frame) => {
        this.#captured(run, frame);
        connection.sendAudio(frame.pcm);
      },
      onProblem: (problem) => this.#fail(run, problem),
      onDevice: this.#onMicrophone,
    });
    this.#cleanups.push(() => recorder.close());
    await recorder.open(wanted(current), signal);
    signal.throwIfAborted();
    await chooseSpeaker(current.speaker);
    const url = await admission(server, signal);
    signal.throwIfAborted();
    const player = new Player({
      context,
      volume: current.volume,
      onProgress: ({ heard, playing }) => {
        connection.send({ type: "played", samples: heard });
        if (this.step === "playing" && !playing) {
          const verdict = this.#loudest < QUIET ? "quiet" : "good";
          this.#end(run, VERDICTS[verdict], verdict === "good");
        }
      },
    });
    this.#cleanups.push(() => player.close());
    const hello = { client: "gptme-voice-plugin sound test", test: true };
    const connection = new Connection(url, hello, {
      onReady: (ready) => {
        player.open(ready.output_sample_rate, signal).catch((error) => this.#fail(run, error));
        recorder.start(ready.input_sample_rate);
        this.#set("speak");
      },
      onMessage: (message) => {
        if (message.type === "reply") {
          player.begin(message.from_sample);
          this.#set("playing");
        } else if (message.type === "clear") {
          void player.clear(message.at_sample);
        }
      },
      onAudio: (pcm) => player.push(pcm),
      onEnd: ({ problem, opened }) => void this.#lost(run, server, problem, opened),
    });
    this.#cleanups.push(() => connection.close());
  }

  /** @param {AbortController} run @param {import("./recorder.js").Frame} frame */
  #captured(run, { level, seconds }) {
    this.level = level;
    this.#loudest = Math.max(this.#loudest, level);
    this.#listened += seconds;
    if (this.step === "speak" && this.#listened > LISTEN_SECONDS) {
      this.#end(run, this.#loudest < DEAD ? VERDICTS.dead : VERDICTS.unheard, false);
    } else {
      this.dispatchEvent(new Event("change"));
    }
  }

  /**
   * @param {AbortController} run @param {import("./servers.js").Server} server
   * @param {Problem | null} problem @param {boolean} opened
   */
  async #lost(run, server, problem, opened) {
    let why = problem ?? new Problem("connection_lost");
    if (!opened) why = (await diagnose(server, run.signal).catch(() => null)) ?? why;
    this.#fail(run, why);
  }

  /** @param {AbortController} run @param {unknown} error */
  #fail(run, error) {
    if (!run.signal.aborted) this.#end(run, asProblem(error).message, false);
  }

  /** @param {AbortController} run @param {string} verdict @param {boolean} good */
  #end(run, verdict, good) {
    if (this.#run !== run) return;
    this.#run = null;
    run.abort();
    for (const cleanup of this.#cleanups.splice(0).reverse()) cleanup();
    this.verdict = verdict;
    this.good = good;
    this.level = 0;
    this.#set("done");
  }

  /** @param {Step} step */
  #set(step) {
    this.step = step;
    this.dispatchEvent(new Event("change"));
  }
}
