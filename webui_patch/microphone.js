// @ts-check
/**
 * Getting a microphone, saying why there is none, and noticing when it goes away.
 */
import { Problem } from "./problems.js";

/**
 * @typedef {object} MicrophoneOptions
 * @property {string} [deviceId] "" or none: the default one. A chosen one that is gone is a
 *   problem, not a reason to listen through another.
 * @property {boolean} [echoCancellation] On unless false, as the next two.
 * @property {boolean} [noiseSuppression]
 * @property {boolean} [autoGainControl]
 */

/**
 * Ask for a microphone.
 *
 * @param {MicrophoneOptions} options
 * @param {AbortSignal} signal If it aborts while the user is asked, the microphone they allow
 *   then is given back at once.
 * @returns {Promise<MediaStream>}
 */
export async function openMicrophone(options, signal) {
  signal.throwIfAborted();
  if (!globalThis.isSecureContext || !navigator.mediaDevices?.getUserMedia) {
    throw new Problem("insecure_context");
  }
  const { deviceId, echoCancellation, noiseSuppression, autoGainControl } = options;
  /** @type {MediaTrackConstraints} */
  const audio = {
    channelCount: 1,
    echoCancellation: echoCancellation ?? true,
    noiseSuppression: noiseSuppression ?? true,
    autoGainControl: autoGainControl ?? true,
    ...(deviceId ? { deviceId: { exact: deviceId } } : {}),
  };
  /** @type {() => void} */
  let abort = () => {};
  const aborted = new Promise((_, reject) => {
    abort = () => reject(signal.reason);
    signal.addEventListener("abort", abort);
  });
  const asked = navigator.mediaDevices.getUserMedia({ audio });
  try {
    // The question to the user can stay open for ever; who stops does not wait for its answer.
    await Promise.race([asked, aborted]);
  } catch (error) {
    asked.then(release, () => {});
    signal.throwIfAborted();
    throw problemOf(error, Boolean(deviceId));
  } finally {
    signal.removeEventListener("abort", abort);
  }
  const stream = await asked;
  if (signal.aborted) {
    release(stream);
    throw signal.reason;
  }
  return stream;
}

/** Give a microphone back. @param {MediaStream} stream */
export function release(stream) {
  for (const track of stream.getTracks()) {
    track.stop();
  }
}

/** @param {unknown} error @param {boolean} chosen Whether a certain device was asked for. */
function problemOf(error, chosen) {
  switch (error instanceof Error || error instanceof DOMException ? error.name : "") {
    case "NotAllowedError":
    case "SecurityError":
      return new Problem("microphone_denied");
    case "NotFoundError":
      // Firefox says so of a chosen device that is gone, too.
      return new Problem(chosen ? "microphone_gone_chosen" : "microphone_missing");
    case "OverconstrainedError":
      return new Problem("microphone_gone_chosen");
    default:
      return new Problem("microphone_busy");
  }
}

/**
 * Call `onProblem`, once, when the microphone of `track` goes away.
 *
 * @param {MediaStreamTrack} track
 * @param {(problem: Problem) => void} onProblem
 * @returns {{stop: () => void, look: () => Promise<void>}} How to stop watching, and to look now:
 *   asked for its devices, a browser finds out what nobody has told it.
 */
export function watchMicrophone(track, onProblem) {
  let told = false;
  /** @param {string} code */
  const tell = (code) => {
    if (!told) {
      stop();
      onProblem(new Problem(code));
    }
  };
  /** @type {PermissionStatus | null} */
  let permission = null;
  const onEnded = async () => {
    const { state } = await askPermission();
    tell(state === "denied" ? "microphone_stopped" : "microphone_unplugged");
  };
  const onPermission = () => {
    if (permission?.state === "denied") {
      tell("microphone_stopped");
    }
  };
  const onDevices = async () => {
    const { deviceId } = track.getSettings();
    const devices = await navigator.mediaDevices.enumerateDevices().catch(() => []);
    const known = devices.filter(({ kind, deviceId: id }) => kind === "audioinput" && id);
    // Without names of devices nothing can be said of this one.
    const there = known.some(({ deviceId: id }) => id === deviceId);
    if (deviceId && known.length > 0 && !there) {
      tell("microphone_unplugged");
    }
  };
  const stop = () => {
    told = true;
    track.removeEventListener("ended", onEnded);
    navigator.mediaDevices.removeEventListener("devicechange", onDevices);
    permission?.removeEventListener("change", onPermission);
  };
  track.addEventListener("ended", onEnded);
  navigator.mediaDevices.addEventListener("devicechange", onDevices);
  askPermission().then(({ status }) => {
    if (!told && status) {
      permission = status;
      permission.addEventListener("change", onPermission);
    }
  });
  return { stop, look: onDevices };
}

/** What the browser says of the permission; not every browser does. */
async function askPermission() {
  try {
    const name = /** @type {PermissionName} */ ("microphone");
    const status = await navigator.permissions.query({ name });
    return { status, state: status.state };
  } catch {
    return { status: null, state: "unknown" };
  }
}

/** @typedef {{id: string, label: string}} Device */

/**
 * List the devices; without names until a microphone has been allowed once.
 * @returns {Promise<{microphones: Device[], speakers: Device[]}>}
 */
export async function listDevices() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  /** @param {string} kind */
  const list = (kind) =>
    devices
      .filter((device) => device.kind === kind && device.deviceId)
      // Chrome's other names of devices that are listed as themselves.
      .filter(({ deviceId }) => deviceId !== "default" && deviceId !== "communications")
      .map(({ deviceId, label }) => ({ id: deviceId, label }));
  return { microphones: list("audioinput"), speakers: list("audiooutput") };
}

/**
 * Call `callback` when devices come or go; returns how to stop that.
 * @param {() => void} callback
 */
export function onDevicesChange(callback) {
  const { mediaDevices } = navigator;
  mediaDevices?.addEventListener("devicechange", callback);
  return () => mediaDevices?.removeEventListener("devicechange", callback);
}
