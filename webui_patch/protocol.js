// @ts-check
/**
 * The messages of the WebSocket subprotocol `gptme.voice.v1`, as docs/protocol.md specifies them.
 *
 * Binary frames are PCM16 little-endian mono both ways, at the rates of `ready`. Positions count
 * samples of the server's output stream since the session began.
 *
 * @typedef {{type: "hello", client: string, conversation_id?: string,
 *   input_sample_rates?: number[], resume?: string, test?: boolean, chat_model?: string}} Hello
 * @typedef {{type: "played", samples: number}} Played
 * @typedef {{type: "interrupt"}} Interrupt
 * @typedef {{type: "mute", on: boolean}} Mute
 * @typedef {{type: "commit"}} Commit
 * @typedef {{type: "text", text: string}} Text
 * @typedef {{type: "end"}} End
 * @typedef {Hello | Played | Interrupt | Mute | Commit | Text | End} ClientMessage
 *
 * @typedef {{type: "preparing", what: string, share?: number}} Preparing
 * @typedef {{type: "ready", session_id: string, input_sample_rate: number,
 *   output_sample_rate: number, backend: string, model: string, features: string[],
 *   recording: boolean, hint?: string}} Ready
 * @typedef {{type: "state", state: string}} StateMessage
 * @typedef {{type: "speech_started"}} SpeechStarted
 * @typedef {{type: "speech_stopped"}} SpeechStopped
 * @typedef {{type: "transcript", role: "user" | "assistant", item_id: string, text: string,
 *   final: boolean}} Transcript
 * @typedef {{type: "reply", item_id: string, from_sample: number}} Reply
 * @typedef {{type: "clear", at_sample: number}} Clear
 * @typedef {{type: "usage", input_audio_ms: number, output_audio_ms: number,
 *   input_tokens: number, output_tokens: number, cost_usd?: number}} Usage
 * @typedef {{type: "conversation", conversation_id: string, name: string}} Conversation
 * @typedef {{type: "tool", name: string,
 *   status: "working" | "confirm" | "done" | "failed" | "cancelled", text: string}} ToolStatus
 * @typedef {{type: "session_ending", reason: string, seconds: number}} SessionEnding
 * @typedef {{type: "error", code: string, message: string, fatal: boolean}} ErrorMessage
 * @typedef {Preparing | Ready | StateMessage | SpeechStarted | SpeechStopped | Transcript | Reply |
 *   Clear | Usage | Conversation | ToolStatus | SessionEnding | ErrorMessage} ServerMessage
 */

/** What a client offers as Sec-WebSocket-Protocol to speak all of the protocol. */
export const SUBPROTOCOL = "gptme.voice.v1";

/** The `type` of every client message. */
export const CLIENT_TYPES = /** @type {const} */ ([
  "hello", "played", "interrupt", "mute", "commit", "text", "end",
]);

/** The `type` of every server message; others are ignored. */
export const SERVER_TYPES = /** @type {const} */ ([
  "preparing", "ready", "state", "speech_started", "speech_stopped", "transcript", "reply", "clear",
  "usage", "conversation", "tool", "session_ending", "error",
]);
