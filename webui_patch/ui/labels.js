// @ts-check
/** The words for a session's state. Pure. */

/** @typedef {import("../session.js").VoiceSession} VoiceSession */

/** As people know it, on their keyboard. */
export const SHORTCUT = /Mac|iPhone|iPad/.test(globalThis.navigator?.platform ?? "")
  ? "⌥⇧V" : "Alt+Shift+V";

/**
 * @typedef {Pick<VoiceSession,
 *   "state" | "muted" | "waiting" | "reconnecting" | "preparing" | "active">} Shown
 *
 * @param {Shown} session
 * @returns {string} One word.
 */
export function stateWord({ state, muted, waiting, reconnecting, preparing, active }) {
  if (active && reconnecting) return "Reconnecting";
  switch (state) {
    case "connecting": return preparing ? "Preparing" : "Connecting";
    case "speaking": return "Speaking";
    case "thinking": return waiting ? "Waiting" : "Thinking";
    case "listening": return muted ? "Muted" : "Listening";
    case "ended": return "Ended";
    default: return "";
  }
}

/**
 * @param {Shown} session
 * @param {string} off Why there is no voice here; empty if there is.
 * @returns {string} The button's accessible name.
 */
export function buttonLabel(session, off = "") {
  if (session.active) return `Voice: ${stateWord(session).toLowerCase()}. End voice`;
  if (off) return `Voice is off here: ${off}`;
  return "Talk with gptme";
}

const WORK = Object.freeze({
  working: "gptme is working",
  confirm: "gptme asks for permission",
  done: "gptme is done",
  failed: "gptme has failed",
  cancelled: "gptme was stopped",
});

/** @param {import("../work.js").WorkStatus} work @returns {string} One line. */
export function workLine({ status, text }) {
  const words = WORK[status] ?? "gptme";
  return text ? `${words}: ${text}` : words;
}

/**
 * @param {number | undefined} share From 0 to 1, as the server has said.
 * @returns {number | null} In whole per cent; null: it is not known.
 */
export function percent(share) {
  if (typeof share !== "number" || !Number.isFinite(share)) return null;
  return Math.floor(Math.min(1, Math.max(0, share)) * 100 + 1e-6);
}

/** @param {number} seconds @returns {string} As in 1:05. */
export function elapsed(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const pad = (/** @type {number} */ n) => String(n).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  return hours ? `${hours}:${pad(minutes)}:${pad(whole % 60)}` : `${minutes}:${pad(whole % 60)}`;
}

/** @param {number} level RMS, 0 to 1. @returns {number} 0 to 1, as loudness is felt. */
export function meter(level) {
  const decibels = 20 * Math.log10(Math.max(level, 1e-5));
  return Math.min(1, Math.max(0, (decibels + 60) / 55));
}
