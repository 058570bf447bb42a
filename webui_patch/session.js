// @ts-check
/**
 * A voice session of this page: one at a time, whatever the page shows meanwhile.
 *
 *     idle -> connecting -> listening <-> thinking <-> speaking -> ended -> idle
 *
 * `muted`, `waiting` and `reconnecting` come on top. All that a session holds (microphone, speaker,
 * socket, timers) belongs to its run: ending the run aborts whatever is under way, and every
 * asynchronous step gives back what it got if its run has ended meanwhile.
 *
 * @typedef {"idle" | "connecting" | "listening" | "thinking" | "speaking" | "ended"} State
 *
 * @typedef {object} Conversation
 * @property {string | null} id None on the welcome page.
 * @property {string} title For people.
 * @property {string} path Where the page shows it; empty if it does not.
 *
 * @typedef {object} Target Where a session goes.
 * @property {Conversation} conversation
 * @property {import("./servers.js").Server} server
 * @property {(id: string) => string} [pathOf] Where the page shows a conversation of that server;
 *   empty if it does not.
 * @property {boolean} [elsewhere] Whether the server is another one than the conversation's: it
 *   does not know it, and makes one of its own.
 * @property {string} [chatModel] gptme's model in a conversation that is made for this session.
 *
 * @typedef {Pick<import("./protocol.js").Preparing, "what" | "share">} Preparing
 * @typedef {import("./protocol.js").Ready} Ready
 * @typedef {import("./protocol.js").ServerMessage} ServerMessage
 * @typedef {import("./protocol.js").Usage} Usage
 */

import {
  chooseSpeaker, elapsed, openContext, restContext, speakerEvents,
} from "./audio-context.js";
import { Captions } from "./captions.js";
import { Connection } from "./connection.js";
import { Uplink } from "./uplink.js";
import { asProblem, Problem } from "./problems.js";
import { Run } from "./run.js";
import { admission, diagnose } from "./servers.js";
import { Speaker } from "./speaker.js";
import { totalUsage } from "./usage.js";
import { WakeLock } from "./wake-lock.js";

/** How long "Ended" is shown when there is nothing to read, in milliseconds. */
export const ENDED_MS = 1500;
/** What is captured after push-to-talk is let go, in seconds: people let go too early. */
const TALK_TAIL = 0.2;
const CLIENT = "gptme-voice-plugin web UI";

/** What a session is made of. @typedef {typeof PARTS} Parts */
const PARTS = {
  openContext, restContext, chooseSpeaker, speakerEvents, admission, diagnose, Connection, Uplink,
  Speaker,
};

/**
 * Fires `change` whenever something that is shown has changed, and `conversation` when one was made
 * for a session that had none.
 */
export class VoiceSession extends EventTarget {
  /** @type {State} */
  state = "idle";
  muted = false;
  reconnecting = false;
  /** Whether it waits for other conversations, and does not think yet. */
  waiting = false;
  /** What the server does before it is ready, if that takes its time. @type {Preparing | null} */
  preparing = null;
  /** @type {Problem | null} */
  problem = null;
  /** A sentence that is no failure; empty if there is none. */
  notice = "";
  /** What its user should know of the server's backend; empty if there is nothing. */
  hint = "";
  /** @type {Conversation | null} */
  conversation = null;
  captions = new Captions();
  /** When the session began to listen, in milliseconds since the epoch; 0 before. */
  startedAt = 0;
  /** The last turn's wait in seconds. @type {number | null} */
  latency = null;
  /** @type {Usage | null} */
  usage = null;
  /** What the server can do in this session: see `Ready`. @type {readonly string[]} */
  features = [];
  /** Whether the session is recorded. */
  recording = false;

  #preferences;
  #parts;
  /** @type {Run | null} */
  #run = null;
  #wakeLock = new WakeLock();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #ending;
  #microphoneLevel = 0;
  #lost = 0;
  /** What has been read needs not be said again. @type {Set<string>} */
  #hintsRead = new Set();
  /** The session before this one, if it failed: the server may not have noticed. */
  #failedBefore = { sessionId: "", conversationId: /** @type {string | null} */ (null) };

  /**
   * @param {import("./preferences.js").PreferenceStore} preferences
   * @param {Parts} parts
   */
  constructor(preferences, parts = PARTS) {
    super();
    this.#preferences = preferences;
    this.#parts = parts;
    preferences.addEventListener("change", (event) =>
      this.#follow(/** @type {CustomEvent} */ (event).detail),
    );
    this.#parts.speakerEvents.addEventListener("lost", () => {
      if (this.#run) this.#note(this.#run, new Problem("speaker_unavailable"));
    });
  }

  get active() {
    return this.#run !== null;
  }

  /** Levels of this moment, RMS from 0 to 1; they change without an event. */
  get levels() {
    return { microphone: this.#microphoneLevel, speaker: this.#run?.speaker?.level ?? 0 };
  }

  /** How gptme's work for the voice goes. */
  get work() {
    return this.#run?.work.current ?? null;
  }

  /** Whether there is a reply that can be stopped. */
  get interruptible() {
    const replying = this.state === "speaking" || this.state === "thinking";
    const can = replying && this.features.includes("interrupt");
    return can || Boolean(this.#run?.speaker?.leaving);
  }

  /** Captured or received frames of 20 ms that were lost in this session. */
  get lostFrames() {
    if (this.preparing) return 0;
    return this.#run?.lostFrames ?? this.#lost;
  }

  /**
   * Start a session; does nothing while there is one.
   *
   * @param {Target} target
   */
  async start(target) {
    if (this.#run) return;
    clearTimeout(this.#ending);
    const { sessionId, conversationId } = this.#failedBefore;
    const same = conversationId !== null && conversationId === target.conversation.id;
    const run = new Run(target, () => this.#changed(), same ? sessionId : "");
    this.#run = run;
    this.#reset(target.conversation);
    this.muted = this.#preferences.current.pushToTalk;
    this.#set("connecting");
    try {
      await this.#open(run);
    } catch (error) {
      this.#failed(run, error);
    }
  }

  /** End the session; does nothing if there is none. */
  stop() {
    if (this.#run) this.#finish(this.#run, null);
  }

  /**
   * Say why there is no session; does nothing while there is one.
   *
   * @param {Problem} problem
   */
  refuse(problem) {
    if (this.#run) return;
    clearTimeout(this.#ending);
    this.problem = problem;
    this.#set("ended");
  }

  /** What is wrong has been read. */
  dismiss() {
    this.problem = null;
    this.notice = "";
    this.#set(this.state === "ended" ? "idle" : this.state);
  }

  /** The hint has been read. */
  dismissHint() {
    this.#hintsRead.add(this.hint);
    this.hint = "";
    this.#changed();
  }

  /** @param {boolean} on */
  mute(on) {
    const run = this.#run;
    if (!run || this.muted === on) return;
    run.talking = false;
    this.#setMuted(run, on);
    if (on) void this.#hush(run, false);
    else run.connection?.send({ type: "mute", on });
  }

  /** Stop the reply that is being spoken, or prepared. */
  interrupt() {
    const run = this.#run;
    run?.speaker?.dropLeaving();
    run?.connection?.send({ type: "interrupt" });
    this.#changed();
  }

  /**
   * Push-to-talk: the key goes down or up.
   *
   * @param {boolean} on
   */
  talk(on) {
    const run = this.#run;
    if (!run || run.talking === on) return;
    if (on) {
      if (this.interruptible) this.interrupt();
      this.mute(false);
      run.presses++;
      run.talking = true;
    } else {
      run.talking = false;
      void this.#endTalk(run, run.presses);
    }
  }

  /** @param {Run} run @param {number} press */
  async #endTalk(run, press) {
    if (run.context) await elapsed(run.context, TALK_TAIL);
    // Pressed again within the tail, it goes on.
    if (this.#run !== run || run.presses !== press || run.talking || this.muted) return;
    this.#setMuted(run, true);
    await this.#hush(run, true);
  }

  /** @param {Run} run @param {boolean} on */
  #setMuted(run, on) {
    this.muted = on;
    if (run.microphone) run.microphone.muted = on;
    if (on) this.#microphoneLevel = 0;
    this.#changed();
  }

  /**
   * Tell the server that the microphone is off, once it has what came before.
   *
   * @param {Run} run @param {boolean} commit Whether the turn ends with it.
   */
  async #hush(run, commit) {
    run.commitDue ||= commit;
    await run.microphone?.settle();
    // Otherwise `ready` goes on from here.
    if (this.#run !== run || !this.muted || !run.connection?.ready) return;
    if (run.commitDue) run.connection.send({ type: "commit" });
    run.commitDue = false;
    run.connection.send({ type: "mute", on: true });
  }

  // Starting

  /** @param {Run} run */
  async #open(run) {
    const { signal } = run;
    const { current } = this.#preferences;
    const context = (run.context = await this.#parts.openContext(signal));
    const microphone = (run.microphone = new this.#parts.Uplink(context, {
      send: (pcm) => run.connection?.sendAudio(pcm) ?? false,
      onLevel: (level, seconds) => {
        run.captured();
        this.#microphoneLevel = level;
        run.latency.captured(level, seconds, now());
      },
      onDevice: () => this.dispatchEvent(new Event("device")),
      onProblem: (problem) => this.#finish(run, problem),
    }));
    run.speaker = new this.#parts.Speaker(context, current.volume, {
      onLevel: (level, seconds) => microphone.played(level, seconds),
      onHeard: (samples) => run.connection?.send({ type: "played", samples }),
      onFirstSound: (late) => {
        this.latency = run.latency.firstSound(now() + late) ?? this.latency;
        this.#changed();
      },
    });
    microphone.muted = this.muted;
    // From here on it captures; what is said before the server is ready is kept.
    await microphone.open(current, signal);
    signal.throwIfAborted();
    await this.#useSpeaker(current.speaker);
    signal.throwIfAborted();
    this.#wakeLock.hold();
    await this.#connect(run);
  }

  /** @param {Run} run */
  async #connect(run) {
    const { signal, target, microphone } = run;
    const url = await this.#parts.admission(target.server, signal);
    signal.throwIfAborted();
    /** @type {Omit<import("./protocol.js").Hello, "type">} */
    const hello = { client: CLIENT };
    if (target.conversation.id && !target.elsewhere) {
      hello.conversation_id = target.conversation.id;
    }
    else if (target.chatModel) hello.chat_model = target.chatModel;
    // The server may not know yet that the connection of that one is lost.
    if (run.resume) hello.resume = run.resume;
    // What waits to be sent is of this rate.
    if (microphone?.rate) hello.input_sample_rates = [microphone.rate];
    run.connection = new this.#parts.Connection(url, hello, {
      onReady: (ready) => void this.#ready(run, ready).catch((error) => this.#failed(run, error)),
      onMessage: (message) => this.#message(run, message),
      onAudio: (pcm) => run.speaker?.push(pcm),
      onEnd: (end) => void this.#closed(run, end),
    });
  }

  /** @param {Run} run @param {Ready} ready */
  async #ready(run, ready) {
    this.startedAt ||= Date.now();
    run.sessionId = run.resume = ready.session_id;
    run.policy.succeeded(performance.now());
    this.reconnecting = this.waiting = false;
    run.excuses = this.preparing !== null;
    this.preparing = null;
    this.features = ready.features;
    this.recording = ready.recording === true;
    const { hint } = ready;
    this.hint = typeof hint === "string" && !this.#hintsRead.has(hint) ? hint : "";
    // What goes on, the new connection tells anew.
    run.work.show(null);
    this.#set("listening");
    await run.speaker?.open(ready.output_sample_rate, run.signal);
    run.microphone?.start(ready.input_sample_rate);
    run.microphone?.flush();
    if (this.muted) await this.#hush(run, false);
  }

  // Running

  /** @param {Run} run @param {Exclude<ServerMessage, Ready>} message */
  #message(run, message) {
    switch (message.type) {
      case "preparing":
        this.preparing = { what: message.what, share: message.share };
        break;
      case "state":
        return this.#serverState(message.state);
      case "speech_started":
        run.speaker?.dropLeaving();
        // What was of passing interest has passed.
        this.notice = "";
        break;
      case "speech_stopped":
        return run.latency.turnEnded(now());
      case "transcript":
        this.captions.update(run.sessionId, message);
        break;
      case "reply":
        return run.speaker?.begin(message.from_sample);
      case "clear":
        return void this.#clear(run, message.at_sample);
      case "usage":
        this.usage = totalUsage(run.usageBefore, message);
        break;
      case "conversation":
        return this.#made(run, message);
      case "tool":
        return run.work.show(message);
      case "session_ending":
        // Without time left the connection ends with a reason of its own.
        if (message.seconds > 0) {
          this.notice = `The session ends in ${Math.ceil(message.seconds / 60)} min.`;
        }
        break;
      case "error":
        // A fatal one ends the connection, which is told with this sentence.
        if (!message.fatal) this.notice = message.message;
        if (message.code === "recording_failed") this.recording = false;
        break;
    }
    this.#changed();
  }

  /**
   * The session has a conversation from now on.
   *
   * @param {Run} run @param {import("./protocol.js").Conversation} message
   */
  #made(run, { conversation_id: id, name }) {
    const path = run.target.pathOf?.(id) ?? "";
    const conversation = { id, title: name || id, path };
    const { elsewhere } = run.target;
    run.target = { ...run.target, conversation, elsewhere: false };
    // The page does not show it: to its user the session stays where it was begun.
    if (elsewhere && this.conversation?.id) return;
    this.conversation = conversation;
    this.dispatchEvent(new Event("conversation"));
    this.#changed();
  }

  /** @param {string} state */
  #serverState(state) {
    this.reconnecting = state === "reconnecting";
    this.waiting = state === "waiting";
    if (this.waiting) return this.#set("thinking");
    if (state === "listening" || state === "thinking" || state === "speaking") this.#set(state);
    else this.#set(state === "muted" ? "listening" : this.state);
  }

  /** @param {Run} run @param {number} atSample */
  async #clear(run, atSample) {
    const { connection } = run;
    await run.speaker?.clear(atSample);
    connection?.send({ type: "played", samples: atSample });
  }

  /** @param {readonly string[]} names Preferences that have changed. */
  #follow(names) {
    const run = this.#run;
    if (!run) return;
    const { current } = this.#preferences;
    if (names.includes("volume") && run.speaker) run.speaker.volume = current.volume;
    if (names.includes("speaker")) void this.#useSpeaker(current.speaker);
    if (names.includes("pushToTalk")) this.mute(current.pushToTalk);
    const capture = ["microphone", "echoCancellation", "noiseSuppression"];
    if (names.some((name) => capture.includes(name))) {
      // If it fails, what was in use goes on.
      run.microphone?.switchTo(current, run.signal).catch((error) => this.#note(run, error));
    }
  }

  /** @param {string} speaker */
  async #useSpeaker(speaker) {
    try {
      await this.#parts.chooseSpeaker(speaker);
    } catch (error) {
      // The default one plays: better than silence.
      this.#note(this.#run, error);
    }
  }

  /** @param {Run | null} run @param {unknown} error One that a session can live with. */
  #note(run, error) {
    if (this.#run !== run) return;
    this.notice = asProblem(error).message;
    this.#changed();
  }

  // Ending

  /** @param {Run} run @param {import("./connection.js").End} end */
  async #closed(run, end) {
    if (this.#run !== run) return;
    run.connection = null;
    this.preparing = null;
    run.speaker?.disconnect();
    run.microphone?.lose(Math.ceil(end.unsent / 2));
    run.usageBefore = this.usage;
    let { problem } = end;
    const delay = run.sessionId && end.retry ? run.policy.next(performance.now()) : null;
    if (delay !== null) {
      this.reconnecting = true;
      this.waiting = false;
      this.captions.settle();
      this.#changed();
      run.retry = setTimeout(() => {
        this.#connect(run).catch((error) => this.#retryFailed(run, error));
      }, delay);
      return;
    }
    if (!end.opened) {
      // A browser does not say why a WebSocket was refused; the server does.
      problem = await this.#parts.diagnose(run.target.server, run.signal).catch(asProblem);
      problem ??= new Problem("server_silent");
    }
    this.#finish(run, problem);
  }

  /** @param {Run} run @param {unknown} error */
  #retryFailed(run, error) {
    const problem = asProblem(error);
    const retry = problem.code === "server_unreachable" || problem.code === "server_unasked";
    void this.#closed(run, { problem, retry, opened: true, unsent: 0 });
  }

  /** @param {Run} run @param {unknown} error */
  #failed(run, error) {
    if (!run.signal.aborted) this.#finish(run, asProblem(error));
  }

  /** @param {Run} run @param {Problem | null} problem */
  #finish(run, problem) {
    if (this.#run !== run) return;
    this.#lost = run.lostFrames;
    this.#run = null;
    run.abort.abort();
    clearTimeout(run.retry);
    run.work.end();
    this.#failedBefore = {
      sessionId: problem ? run.resume : "", conversationId: run.target.conversation.id,
    };
    run.connection?.close();
    run.microphone?.close();
    run.speaker?.close();
    if (run.context) void this.#parts.restContext();
    this.#wakeLock.release();
    this.captions.settle();
    this.#microphoneLevel = 0;
    this.reconnecting = this.waiting = this.muted = this.recording = false;
    this.preparing = null;
    this.hint = "";
    this.problem = problem;
    if (problem?.code === "internal_error") console.error("gptme-voice-plugin:", problem.cause);
    this.#set("ended");
    if (problem) return;
    this.#ending = setTimeout(() => {
      if (this.state === "ended") this.#set("idle");
    }, ENDED_MS);
  }

  /** @param {Conversation} conversation */
  #reset(conversation) {
    this.conversation = conversation;
    this.problem = this.latency = this.usage = null;
    this.notice = "";
    this.features = [];
    this.captions.clear();
    this.startedAt = 0;
  }

  /** @param {State} state */
  #set(state) {
    this.state = state;
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

/** Seconds of the page's clock. */
function now() {
  return performance.now() / 1000;
}
