/** What the sound tests do inside of the page. */

/** @param {ArrayBufferView} array */
export function base64(array) {
  const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  let text = "";
  for (let at = 0; at < bytes.length; at += 32768) {
    text += String.fromCharCode(...bytes.subarray(at, at + 32768));
  }
  return btoa(text);
}

/** Join typed arrays of one kind. */
export function joined(parts, Kind) {
  const all = new Kind(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Take down all that `node` gives; `skipped` counts frames that the browser left out. */
export async function tap(node) {
  const { context } = node;
  await context.audioWorklet.addModule("/tap-worklet.js");
  const tapping = new AudioWorkletNode(context, "tap", { channelCount: 1 });
  const result = { parts: [], skipped: 0, next: 0, node: tapping };
  tapping.port.onmessage = ({ data: { frame, samples } }) => {
    if (result.next) result.skipped += frame - result.next;
    result.next = frame + samples.length;
    result.parts.push(samples);
  };
  node.connect(tapping).connect(context.destination);
  return result;
}

/** Remember every microphone that is opened. */
export const streams = [];
const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = async (wanted) => {
  const stream = await open(wanted);
  streams.push(stream);
  return stream;
};

/** How many tracks are still open. */
export function openTracks() {
  return streams.flatMap((stream) => stream.getTracks())
    .filter((track) => track.readyState === "live").length;
}

export const PLAIN = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };

/**
 * Capture with our recorder, the stock worklet and a tap, all from one microphone.
 */
export async function capture(rate) {
  const { openContext } = await import("/audio-context.js");
  const { Recorder } = await import("/recorder.js");
  const { signal } = new AbortController();
  const context = await openContext(signal);
  const run = { context, frames: [], times: [], problems: [], device: null, stock: [] };
  const recorder = new Recorder({
    context,
    onFrame: (frame) => {
      run.frames.push(new Int16Array(frame.pcm));
      run.times.push(context.currentTime);
    },
    onProblem: (problem) => run.problems.push(problem.code),
    onDevice: (label, settings) => { run.device = { label, settings }; },
  });
  await recorder.open(PLAIN, signal);
  recorder.start(rate);
  run.recorder = recorder;
  const source = new MediaStreamAudioSourceNode(context, { mediaStream: streams.at(-1) });
  run.tap = await tap(source);
  await context.audioWorklet.addModule("/stock-worklet.js");
  const stock = new AudioWorkletNode(context, "pcm-recorder-processor");
  stock.port.onmessage = ({ data }) => run.stock.push(new Int16Array(data));
  source.connect(stock).connect(context.destination);
  run.sources = [source, stock];
  return run;
}

/** Play with our player, with a tap on what it makes. */
export async function playing(rate) {
  const { openContext, speakerNode } = await import("/audio-context.js");
  const { Player } = await import("/player.js");
  const { signal } = new AbortController();
  const context = await openContext(signal);
  const run = { context, rate, progress: [], levels: [], tap: await tap(speakerNode(context)) };
  run.player = new Player({
    context,
    onProgress: (progress) => run.progress.push(progress),
    onLevel: (level, seconds) => run.levels.push([level, seconds]),
  });
  await run.player.open(rate, signal);
  return run;
}

const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/**
 * Push the PCM16 at `url` as a network would deliver it.
 *
 * @param {{frames: number[], late: number[]}} plan Samples of each frame, and how many
 *   milliseconds each comes after the time at which it would be on time.
 */
export async function feed(run, url, { frames, late }) {
  const pcm = await (await fetch(url)).arrayBuffer();
  run.player.begin(0);
  const began = performance.now();
  let at = 0;
  for (let i = 0; i < frames.length; i++) {
    const due = began + (at / run.rate) * 1000 + late[i] - performance.now();
    if (due > 0) await wait(due);
    run.player.push(pcm.slice(at * 2, (at + frames[i]) * 2));
    at += frames[i];
  }
}

/** Wait until all has been heard. */
export async function heardAll(run, position) {
  for (let i = 0; !run.progress.some((one) => !one.playing && one.heard === position); i++) {
    if (i > 500) throw new Error(`At ${JSON.stringify([run.player.stats, run.progress.at(-1)])}`);
    await wait(20);
  }
}

/** What the tap has taken, as PCM16. */
export function tapped({ tap: { parts } }) {
  return Int16Array.from(joined(parts, Float32Array), (value) => Math.round(value * 32767));
}
