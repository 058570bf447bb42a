// @ts-check
/**
 * One WebSocket of a voice session, from opening it to its one end.
 *
 * It tells its owner, in order: `onReady` once, then `onAudio`; `onMessage` at any time; `onEnd`
 * exactly once, whatever went wrong first: an error is always followed by a close, and a close may
 * come without one. After `close()` it tells nothing more.
 *
 * @typedef {import("./protocol.js").ClientMessage} ClientMessage
 * @typedef {import("./protocol.js").Ready} Ready
 * @typedef {import("./protocol.js").ServerMessage} ServerMessage
 *
 * @typedef {object} End
 * @property {import("./problems.js").Problem | null} problem What its user is to be told.
 * @property {boolean} retry Whether a new connection may do better.
 * @property {boolean} opened Whether it was ever open: if not, the server may tell why.
 * @property {number} unsent Bytes it took and did not send.
 *
 * @typedef {object} Owner
 * @property {(ready: Ready) => void} onReady
 * @property {(message: Exclude<ServerMessage, Ready>) => void} onMessage
 * @property {(pcm: ArrayBuffer) => void} onAudio
 * @property {(end: End) => void} onEnd
 */

import { SERVER_TYPES, SUBPROTOCOL } from "./protocol.js";
import { Problem } from "./problems.js";

/** How long the server may take from the call to `ready`, in milliseconds. */
export const READY_TIMEOUT_MS = 10_000;
/**
 * How long it may say nothing while it prepares: longer than a backend may, so that the server's
 * own sentence comes first.
 */
export const PREPARING_TIMEOUT_MS = 30_000;

/** What may wait in the socket, in bytes: a second or two; the rest waits where it is counted. */
const SENDING_BYTES = 64_000;
/** How long it may take none of it, in milliseconds: then the network is gone. */
const STALL_MS = 10_000;

/** Close codes after which the same session is worth another try (RFC 6455, section 7.4). */
const PASSING = new Set([1001, 1006, 1011, 1012, 1013]);

const KNOWN = new Set(/** @type {readonly string[]} */ (SERVER_TYPES));

export class Connection {
  #socket;
  #owner;
  #ready = false;
  #opened = false;
  #ended = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {Problem | null} */
  #fatal = null;
  /** @type {number | null} */
  #stalledSince = null;

  /**
   * @param {string} url
   * @param {Omit<import("./protocol.js").Hello, "type">} hello
   * @param {Owner} owner
   */
  constructor(url, hello, owner) {
    this.#owner = owner;
    this.#socket = new WebSocket(url, SUBPROTOCOL);
    this.#socket.binaryType = "arraybuffer";
    this.#socket.onopen = () => {
      this.#opened = true;
      this.#write({ type: "hello", ...hello });
    };
    this.#socket.onmessage = (event) => this.#receive(event.data);
    this.#socket.onclose = (event) => this.#closed(event);
    this.#wait("ready_timeout", READY_TIMEOUT_MS);
  }

  /** Whether audio may be sent. */
  get ready() {
    return this.#ready && !this.#ended && this.#socket.readyState === WebSocket.OPEN;
  }

  /** @param {ClientMessage} message Dropped when there is nobody to read it. */
  send(message) {
    if (this.ready) this.#write(message);
  }

  /** @param {ArrayBuffer} pcm @returns {boolean} Whether it was taken; if not, offer it again. */
  sendAudio(pcm) {
    if (!this.ready) return false;
    const now = performance.now();
    if (this.#socket.bufferedAmount > SENDING_BYTES) {
      this.#stalledSince ??= now;
      if (now - this.#stalledSince > STALL_MS) this.#end(new Problem("connection_lost"), true);
      return false;
    }
    this.#stalledSince = null;
    this.#socket.send(pcm);
    return true;
  }

  /** Say goodbye and close; nothing more is told. Harmless when repeated. */
  close() {
    if (this.ready) this.#write({ type: "end" });
    this.#ended = true;
    this.#free();
  }

  /** @param {string} code What is wrong if it is not ready by then. @param {number} milliseconds */
  #wait(code, milliseconds) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#end(new Problem(code), false), milliseconds);
  }

  /** @param {ClientMessage} message */
  #write(message) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  /** @param {string | ArrayBuffer} data */
  #receive(data) {
    if (this.#ended) return;
    if (typeof data !== "string") {
      if (this.#ready) this.#owner.onAudio(data);
      return;
    }
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      message = null;
    }
    if (typeof message?.type !== "string") {
      this.#end(new Problem("protocol_error"), false);
      return;
    }
    if (!KNOWN.has(message.type)) return;
    if (message.type === "ready") {
      if (this.#ready) return;
      clearTimeout(this.#timer);
      this.#ready = true;
      this.#owner.onReady(message);
      return;
    }
    if (message.type === "preparing") {
      if (this.#ready) return;
      this.#wait("preparing_timeout", PREPARING_TIMEOUT_MS);
    }
    if (message.type === "error" && message.fatal) {
      // The close that follows tells nothing more.
      this.#fatal = new Problem(message.code, message.message);
    }
    this.#owner.onMessage(message);
  }

  /** @param {CloseEvent} event */
  #closed(event) {
    if (this.#fatal) {
      this.#end(this.#fatal, event.code === 1012);
    } else if (event.code === 1000) {
      this.#end(null, false);
    } else {
      const reason = event.reason ? new Problem("closed", event.reason) : null;
      const lost = new Problem(this.#opened ? "connection_lost" : "server_unreachable");
      this.#end(reason ?? lost, PASSING.has(event.code));
    }
  }

  /** @param {Problem | null} problem @param {boolean} retry */
  #end(problem, retry) {
    if (this.#ended) return;
    this.#ended = true;
    const unsent = this.#socket.bufferedAmount;
    this.#free();
    this.#owner.onEnd({ problem, retry, opened: this.#opened, unsent });
  }

  #free() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    socket.onopen = socket.onmessage = socket.onclose = null;
    // One that is not open yet is given up as well.
    if (socket.readyState <= WebSocket.OPEN) socket.close(1000);
  }
}
