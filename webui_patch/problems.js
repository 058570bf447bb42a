// @ts-check
/**
 * Everything that can go wrong in the page, with the sentence its user reads: what is wrong, and
 * what to do about it. Errors of the server come with a sentence of their own (see errors.py).
 */

/** @type {Readonly<Record<string, string>>} */
const SENTENCES = Object.freeze({
  insecure_context:
    "Browsers allow the microphone on https:// pages and on localhost only: open gptme through " +
    "one of them.",
  audio_unsupported:
    "This browser cannot record or play live audio; use a current Firefox, Chrome, Edge or Safari.",
  audio_parts_missing:
    "The voice plugin's audio parts could not be loaded; reload the page: it may have been " +
    "updated.",
  audio_blocked: "The browser does not let this page play sound; click the voice button again.",
  microphone_denied:
    "The microphone is not allowed for this page: allow it beside the address, then start again.",
  microphone_missing: "No microphone was found; plug one in, then start again.",
  microphone_gone_chosen:
    "The microphone that is chosen is not there; choose another one in Settings > Audio.",
  microphone_busy:
    "The microphone cannot be opened; close other programs that use it, then start again.",
  microphone_unplugged: "The microphone was disconnected; plug it in or choose another one.",
  microphone_stopped:
    "The browser took the microphone away; allow it beside the address, then start again.",
  speaker_unavailable: "The chosen speaker is not there; the default one plays.",
  server_unreachable:
    "The voice server cannot be reached; check that gptme-server runs, then start again.",
  server_silent:
    "The server runs, but a voice connection does not reach it; its log says why (a proxy has to " +
    "pass WebSockets).",
  server_address_wrong:
    "The voice server address in Settings > Audio is none; it looks like wss://host/voice.",
  plugin_missing:
    "This conversation's server has no voice plugin; install gptme-voice-plugin there.",
  server_unasked:
    "This conversation's server does not answer this page; check that it runs, and start it with " +
    "--cors-origin and this page's address.",
  login_missing: "The server does not accept the login; reload the page with its token.",
  login_unknown:
    "That server wants a login that this page does not have; add it, with its token, in " +
    "Settings > Servers.",
  refused:
    "The server refused the voice session; its log says why (usually the address of this page " +
    "is missing in allowed_origins).",
  voice_off: "The server cannot start its voice process; its log says why.",
  ready_timeout: "The voice server did not get ready within 10 seconds; start again.",
  preparing_timeout: "The voice server says nothing more of what it prepares; start again.",
  connection_lost: "The connection to the voice server was lost; start again.",
  protocol_error: "The voice server sends what this page does not understand; reload the page.",
  internal_error: "Voice failed in this page; reload it, and report what the console says.",
});

/** A failure that its user is told about. */
export class Problem extends Error {
  /**
   * @param {string} code Stable identifier: one of the above, or one of the server's.
   * @param {string} [message] The server's own sentence; the one for `code` otherwise.
   */
  constructor(code, message) {
    super(message || SENTENCES[code] || SENTENCES.internal_error);
    this.name = "Problem";
    this.code = code;
  }
}

/** Every code this page knows a sentence for. */
export const CODES = Object.freeze(Object.keys(SENTENCES));

/**
 * Return `error` as something to tell; what was not foreseen is a defect of ours.
 *
 * @param {unknown} error
 * @returns {Problem}
 */
export function asProblem(error) {
  if (error instanceof Problem) return error;
  const problem = new Problem("internal_error");
  problem.cause = error;
  return problem;
}
