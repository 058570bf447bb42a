// @ts-check
import { TurnLatency } from "./latency.js";
import { ReconnectPolicy } from "./reconnect.js";
import { Work } from "./work.js";

/** @typedef {import("./connection.js").Connection} Connection */
/** @typedef {import("./protocol.js").Usage} Usage */
/** @typedef {import("./session.js").Target} Target */
/** @typedef {import("./speaker.js").Speaker} Speaker */
/** @typedef {import("./uplink.js").Uplink} Uplink */

/** What one session holds, from its start to its end. */
export class Run {
  abort = new AbortController();
  latency = new TurnLatency();
  policy = new ReconnectPolicy();
  /** @type {AudioContext | null} */
  context = null;
  /** @type {Uplink | null} */
  microphone = null;
  /** @type {Speaker | null} */
  speaker = null;
  /** @type {Connection | null} */
  connection = null;
  /** Of the connection; empty until the first one is ready. */
  sessionId = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  retry;
  /** Push-to-talk: whether it is held, and how often it has been. */
  talking = false;
  presses = 0;
  /** Whether the turn that waits to be sent ends with what waits. */
  commitDue = false;
  /** Of the connections before this one. @type {Usage | null} */
  usageBefore = null;
  /** Whether what is lost until the next frame was said while the server prepared. */
  excuses = false;
  #excused = 0;

  /**
   * @param {Target} target
   * @param {() => void} onWork How gptme's work goes has changed.
   * @param {string} [resume] The id of the session that this one replaces: its connection was lost.
   */
  constructor(target, onWork, resume = "") {
    this.target = target;
    this.work = new Work(onWork);
    this.resume = resume;
  }

  get signal() {
    return this.abort.signal;
  }

  get lostFrames() {
    return this.#allLost - this.#excused;
  }

  get #allLost() {
    return (this.microphone?.lostFrames ?? 0) + (this.speaker?.lostFrames ?? 0);
  }

  /**
   * A frame was captured, which tells what was lost before. Where a server prepares for minutes,
   * only the last of what was said is kept, and nobody was told to speak.
   */
  captured() {
    if (this.excuses) this.#excused = this.#allLost;
    this.excuses = false;
  }
}
