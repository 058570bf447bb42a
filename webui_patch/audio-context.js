// @ts-check
/**
 * The page's one AudioContext, for every session, and the speaker it plays on.
 */
import { asProblem, Problem } from "./problems.js";
import { ask, baseOfScript } from "./servers.js";

/** A browser that wants a click first does not say so: it lets `resume` wait. In milliseconds. */
const RESUME_TIMEOUT = 4000;
/** Seconds of the context's clock in which players and recorders end before it rests. */
const ENDING = 0.05;

/** What Firefox told of PulseAudio, in seconds, when it could be asked. */
const FIREFOX_LATENCY = 0.045;

/** @type {AudioContext | null} */
let context = null;
/** @type {Promise<void> | null} */
let parts = null;
/** How many need sound, and how often that has changed. */
let holders = 0;
let generation = 0;
/** One choice of a speaker after the other. @type {Promise<unknown>} */
let choosing = Promise.resolve();

/** All players play into it. @type {GainNode | null} */
let output = null;
let speaker = "";
/** Where a context cannot choose its speaker. @type {HTMLAudioElement | null} */
let element = null;

/**
 * Get the context, running, with both worklets. Whoever gets it gives it back with `restContext`.
 *
 * @param {AbortSignal} signal
 * @returns {Promise<AudioContext>}
 * @throws {Problem} insecure_context, audio_unsupported, audio_parts_missing, server_unreachable,
 *   audio_blocked
 */
export async function openContext(signal) {
  signal.throwIfAborted();
  if (!globalThis.isSecureContext) {
    throw new Problem("insecure_context");
  }
  if (!globalThis.AudioContext || !globalThis.AudioWorkletNode) {
    throw new Problem("audio_unsupported");
  }
  if (context === null || context.state === "closed") {
    try {
      context = new AudioContext({ latencyHint: "interactive" });
    } catch {
      throw new Problem("audio_unsupported");
    }
    parts = output = null;
    speaker = "";
    context.addEventListener("statechange", keepState);
    context.addEventListener("error", speakerFailed);
    document.addEventListener("visibilitychange", keepState);
  }
  const opened = context;
  holders++;
  generation++;
  // Both at once: a click counts for a short while only.
  const running = resume(opened, signal);
  parts ??= addParts(opened);
  try {
    await Promise.all([running, parts]);
    signal.throwIfAborted();
  } catch (error) {
    running.catch(() => {});
    void restContext();
    signal.throwIfAborted();
    throw error;
  }
  return opened;
}

/** Give the context back; without anybody who needs it, it rests. What plays fades out before. */
export async function restContext() {
  holders--;
  const resting = ++generation;
  const opened = context;
  if (holders > 0 || opened === null || opened.state === "closed") {
    return;
  }
  element?.pause();
  if (opened.state === "running") {
    await elapsed(opened, ENDING);
  }
  // One that is still starting, too, or it would run for nobody.
  if (resting === generation) {
    await opened.suspend();
  }
}

/**
 * Wait by the context's own clock, which no browser slows down in a tab in the background.
 *
 * @param {AudioContext} context
 * @param {number} seconds
 * @returns {Promise<void>}
 */
export function elapsed(context, seconds) {
  return new Promise((resolve) => {
    const clock = new ConstantSourceNode(context, { offset: 0 });
    clock.onended = () => {
      clock.disconnect();
      resolve();
    };
    clock.connect(context.destination);
    clock.start();
    clock.stop(context.currentTime + seconds);
  });
}

/**
 * How much later than the context's clock its sound is heard, in seconds, as far as is known.
 *
 * Firefox is not asked: it asks its sound process while it keeps its own audio thread waiting, for
 * which the sound process may be waiting in turn, and then the page is frozen for good.
 *
 * @param {AudioContext} context
 */
export function outputLatency(context) {
  if (navigator.userAgent.includes("Firefox/")) {
    return FIREFOX_LATENCY;
  }
  return context.outputLatency || context.baseLatency || 0;
}

/**
 * What players connect to.
 * @param {AudioContext} context
 * @returns {AudioNode}
 */
export function speakerNode(context) {
  if (output === null) {
    output = new GainNode(context);
    output.connect(context.destination);
  }
  return output;
}

/** Whether this browser can play on another speaker than the default one. */
export function canChooseSpeaker() {
  return "setSinkId" in AudioContext.prototype || "setSinkId" in HTMLMediaElement.prototype;
}

/**
 * Play on this speaker from now on.
 *
 * @param {string} deviceId "" is the default one.
 * @throws {Problem} speaker_unavailable; then the default one plays.
 */
export function chooseSpeaker(deviceId) {
  const choice = choosing.then(() => applySpeaker(deviceId));
  choosing = choice.catch(() => {});
  return choice;
}

/** Fires `lost` when the speaker that was chosen has gone away; the default one plays. */
export const speakerEvents = new EventTarget();

/** A context whose speaker was pulled out stands still, and with it what is captured. */
function speakerFailed() {
  if (speaker === "") {
    return;
  }
  speaker = "";
  choosing = choosing
    .then(() => context && setSpeaker(context, speaker))
    .then(keepState)
    .catch(() => {});
  speakerEvents.dispatchEvent(new Event("lost"));
}

/** @param {string} deviceId */
async function applySpeaker(deviceId) {
  // The default one is where it is; a chosen one may have been away meanwhile.
  if (context === null || context.state === "closed" || deviceId + speaker === "") {
    return;
  }
  try {
    await setSpeaker(context, deviceId);
    speaker = deviceId;
  } catch {
    await setSpeaker(context, "").catch(() => {});
    speaker = "";
    throw new Problem("speaker_unavailable");
  }
}

/** @param {AudioContext} context @param {string} deviceId */
async function setSpeaker(context, deviceId) {
  const chooser = /** @type {{setSinkId?: (id: string) => Promise<void>}} */ (context);
  if (chooser.setSinkId) {
    await chooser.setSinkId(deviceId);
    return;
  }
  const node = speakerNode(context);
  if (deviceId === "") {
    node.disconnect();
    node.connect(context.destination);
    element?.pause();
    element = null;
    return;
  }
  const stream = new MediaStreamAudioDestinationNode(context);
  const other = new Audio();
  other.srcObject = stream.stream;
  await other.setSinkId(deviceId);
  await other.play();
  node.disconnect();
  node.connect(stream);
  element?.pause();
  element = other;
}

/** @param {AudioContext} opened */
async function addParts(opened) {
  try {
    await Promise.all(
      ["./recorder-worklet.js", "./player-worklet.js"].map((part) =>
        opened.audioWorklet.addModule(new URL(part, import.meta.url)),
      ),
    );
  } catch {
    // It never asks again for a part that was not there once; the next session's context does.
    if (context === opened) context = null;
    // The server they come from may be gone; whatever else it has to say does not matter here.
    const home = { base: baseOfScript(import.meta.url), token: "", name: "" };
    const why = await ask(home, "status").then(() => null, asProblem);
    void opened.close();
    throw why?.code === "server_unreachable" ? why : new Problem("audio_parts_missing");
  }
}

/** @param {AudioContext} context @param {AbortSignal} signal */
async function resume(context, signal) {
  if (context.state === "running") {
    return;
  }
  /** @type {() => void} */
  let stop = () => {};
  const end = new Promise((_, reject) => {
    const timer = setTimeout(() => reject(new Problem("audio_blocked")), RESUME_TIMEOUT);
    const abort = () => reject(signal.reason);
    signal.addEventListener("abort", abort);
    stop = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
    };
  });
  try {
    await Promise.race([context.resume(), end]);
  } catch (error) {
    throw signal.aborted || error instanceof Problem ? error : new Problem("audio_blocked");
  } finally {
    stop();
  }
}

/**
 * A call, another app or a change of devices can stop the context under a session; and one that was
 * given up while it was starting can start afterwards.
 */
function keepState() {
  if (context === null || context.state === "closed") {
    return;
  }
  if (holders > 0 && context.state !== "running") {
    context.resume().catch(() => {});
  } else if (holders === 0 && context.state === "running") {
    context.suspend().catch(() => {});
  }
}
