// @ts-check
/**
 * The strip above the chat input: what the session does, what is being said, what is wrong. One
 * element for the page, which is moved to where it belongs.
 */

import { DeviceMenu } from "./device-menu.js";
import { CaptionList } from "./caption-list.js";
import { h, icon, ICONS, setAttribute, setText } from "./dom.js";
import { elapsed, meter, percent, stateWord, workLine } from "./labels.js";
import { remedy } from "./remedies.js";

/** @typedef {import("../session.js").VoiceSession} VoiceSession */

const WAITING = "Other conversations are answered first; yours follows.";
const RECORDING = "This session is saved as a sound file beside the conversation.";

export class Strip {
  #session;
  #preferences;
  #restart;
  #open;
  #frame = 0;
  /** Whether the page shows another conversation. */
  #away = false;

  /**
   * @param {VoiceSession} session
   * @param {import("../preferences.js").PreferenceStore} preferences
   * @param {{restart: () => void, open: (path: string) => void}} actions
   */
  constructor(session, preferences, { restart, open }) {
    this.#session = session;
    this.#preferences = preferences;
    this.#restart = restart;
    this.#open = open;
    this.word = h("span", { class: "gptme-voice-word", role: "status" });
    this.recording = h("span", { class: "gptme-voice-recording", role: "status" });
    this.bar = h("span", { class: "gptme-voice-bar" });
    this.time = h("span", { class: "gptme-voice-figure", title: "Elapsed time" });
    this.wait = h("span", {
      class: "gptme-voice-figure",
      title: "From the end of your words to the first sound of the reply",
    });
    this.cost = h("span", { class: "gptme-voice-figure gptme-voice-usage" });
    this.lost = h("span", { class: "gptme-voice-figure gptme-voice-lost", hidden: true });
    this.muteButton = this.#control("Mute", ICONS.microphone, () => session.mute(!session.muted));
    this.stopButton = this.#control("Stop the reply", ICONS.stop, () => session.interrupt());
    this.devicesButton = this.#control("Microphone and speaker", ICONS.devices, () =>
      this.devices.toggle(),
    );
    this.endButton = this.#control("End voice", ICONS.end, () => {
      if (session.active) session.stop();
      else session.dismiss();
    });
    this.talkButton = this.#talkButton();
    this.devices = new DeviceMenu(preferences, this.devicesButton);
    this.captions = new CaptionList();
    this.elsewhere = h("a", { class: "gptme-voice-link", href: "#" });
    this.elsewhere.addEventListener("click", (event) => {
      event.preventDefault();
      this.#goThere();
    });
    this.place = h("p", { class: "gptme-voice-note", hidden: true },
      "Voice goes on in ", this.elsewhere, ".");
    this.workText = h("span", { class: "gptme-voice-work-text" });
    this.workButton = h("button", {
      type: "button", class: "gptme-voice-action", onclick: () => this.#goThere(),
    }, "Answer it there");
    this.work = h("div", { class: "gptme-voice-work" },
      h("span", { class: "gptme-voice-work-mark", "aria-hidden": "true" }),
      // In the page before it says something, or a screen reader may miss it.
      h("span", { class: "gptme-voice-work-line", role: "status" }, this.workText),
      this.workButton);
    this.preparingText = h("span", { role: "status" });
    this.progress = h("progress", { class: "gptme-voice-progress", max: 100 });
    this.share = h("span", { class: "gptme-voice-figure", "aria-hidden": "true" });
    this.preparing = h("div", { class: "gptme-voice-preparing", hidden: true },
      // Not how much of it: a screen reader would speak every change.
      h("label", { class: "gptme-voice-preparing-label" }, this.preparingText, this.progress),
      this.share);
    this.hintText = h("span", { role: "status" });
    this.hintButton = this.#control("Dismiss", ICONS.end, () => session.dismissHint());
    this.hint = h("div", { class: "gptme-voice-hint", hidden: true },
      this.hintText, this.hintButton);
    this.notice = h("p", { class: "gptme-voice-note", role: "status", hidden: true });
    this.problemText = h("span");
    this.problemButton = h("button", { type: "button", class: "gptme-voice-action" });
    this.problem = h("p", { class: "gptme-voice-problem", role: "alert", hidden: true },
      this.problemText, this.problemButton);
    this.element = h(
      "section",
      {
        class: "gptme-voice gptme-voice-strip", "data-testid": "gptme-voice-strip",
        "aria-label": "Voice", hidden: true,
      },
      h("div", { class: "gptme-voice-row" },
        h("span", { class: "gptme-voice-dot", "aria-hidden": "true" }),
        h("span", { class: "gptme-voice-state" }, this.word, this.recording),
        h("span", { class: "gptme-voice-meter", role: "presentation" }, this.bar),
        h("span", { class: "gptme-voice-figures" }, this.time, this.wait, this.cost, this.lost),
        h("span", { class: "gptme-voice-controls" },
          this.talkButton, this.stopButton, this.muteButton, this.devicesButton, this.endButton)),
      this.devices.element, this.place, this.work, this.preparing, this.hint, this.notice,
      this.problem, this.captions.element,
    );
    session.addEventListener("change", () => this.update());
    preferences.addEventListener("change", () => this.update());
    this.update();
  }

  /** @param {string | null | undefined} conversationId The one shown beside it, if there is any. */
  showIn(conversationId) {
    const own = this.#session.conversation?.id ?? null;
    const { path = "", title = "" } = this.#session.conversation ?? {};
    this.#away = this.#session.active && conversationId !== own;
    setText(this.elsewhere, title);
    // Where the page cannot show it, it is only told.
    if (path) setAttribute(this.elsewhere, "href", path);
    else this.elsewhere.removeAttribute("href");
    this.place.hidden = !this.#away;
    this.#showWork();
  }

  #goThere() {
    const path = this.#session.conversation?.path;
    if (path) this.#open(path);
  }

  update() {
    const focused = this.element.contains(document.activeElement);
    this.#update();
    // Whose control has gone is not sent back to the top of the page.
    if (focused && !this.element.hidden && !this.#hasFocus) this.endButton.focus();
  }

  get #hasFocus() {
    const { activeElement } = document;
    return activeElement instanceof HTMLElement && this.element.contains(activeElement) &&
      activeElement.offsetParent !== null;
  }

  #update() {
    const {
      state, active, problem, muted, waiting, usage, latency, hint, notice, recording,
    } = this.#session;
    const { current } = this.#preferences;
    this.element.hidden = state === "idle" && !problem && !notice;
    setAttribute(this.element, "data-state", state);
    setAttribute(this.element, "data-muted", String(muted));
    setText(this.word, stateWord(this.#session));
    setText(this.wait, latency === null ? "" : `${latency.toFixed(1)} s`);
    this.#showUsage(usage);
    this.#showLost();
    for (const control of [this.stopButton, this.muteButton, this.devicesButton]) {
      control.hidden = !active;
    }
    this.stopButton.hidden ||= !this.#session.interruptible;
    this.muteButton.hidden ||= !this.#session.features.includes("mute");
    this.talkButton.hidden = !active || !current.pushToTalk;
    setAttribute(this.muteButton, "aria-pressed", String(muted));
    setAttribute(this.endButton, "aria-label", active ? "End voice" : "Close");
    setAttribute(this.endButton, "title", active ? "End voice" : "Close");
    if (!active) this.devices.close();
    setText(this.recording, recording ? "Recording" : "");
    setAttribute(this.recording, "title", recording ? RECORDING : "");
    this.#showWork();
    this.#showPreparing();
    this.hint.hidden = !hint;
    setText(this.hintText, hint);
    const explained = [waiting ? WAITING : "", notice].filter(Boolean).join(" ");
    setText(this.notice, explained);
    this.notice.hidden = !explained;
    this.#showProblem(problem);
    this.captions.element.hidden = !current.captions;
    if (current.captions) this.captions.show(this.#session.captions.items);
    if (active && !this.#frame) this.#frame = requestAnimationFrame(() => this.#animate());
  }

  #animate() {
    this.#frame = 0;
    const { active, levels, startedAt, state } = this.#session;
    const level = state === "speaking" ? Math.max(levels.speaker, levels.microphone)
      : levels.microphone;
    this.bar.style.transform = `scaleX(${active ? meter(level).toFixed(3) : 0})`;
    setText(this.time, startedAt ? elapsed((Date.now() - startedAt) / 1000) : "");
    this.#showLost();
    if (active) this.#frame = requestAnimationFrame(() => this.#animate());
  }

  #showLost() {
    const frames = this.#session.lostFrames;
    this.lost.hidden = frames === 0;
    setText(this.lost, frames ? `${frames} ${frames === 1 ? "frame" : "frames"} lost` : "");
  }

  /** @param {import("../session.js").Usage | null} usage */
  #showUsage(usage) {
    const cost = usage?.cost_usd;
    const tokens = (usage?.input_tokens ?? 0) + (usage?.output_tokens ?? 0);
    let text = tokens ? `${tokens.toLocaleString("en")} tokens` : "";
    if (typeof cost === "number") text = `$${cost.toFixed(cost < 0.1 ? 3 : 2)}`;
    setText(this.cost, text);
  }

  #showWork() {
    const { work, conversation } = this.#session;
    const line = work ? workLine(work) : "";
    setText(this.workText, line);
    setAttribute(this.workText, "title", line);
    setAttribute(this.work, "data-status", work?.status ?? "");
    this.workButton.hidden = work?.status !== "confirm" || !this.#away || !conversation?.path;
  }

  #showPreparing() {
    const { preparing } = this.#session;
    this.preparing.hidden = !preparing;
    if (!preparing) return;
    const share = percent(preparing.share);
    setText(this.preparingText, `${preparing.what}…`);
    if (share === null) this.progress.removeAttribute("value");
    else this.progress.value = share;
    setText(this.share, share === null ? "" : `${share} %`);
  }

  /** @param {import("../problems.js").Problem | null} problem */
  #showProblem(problem) {
    this.problem.hidden = !problem;
    setText(this.problemText, problem?.message ?? "");
    if (!problem) return;
    setAttribute(this.problem, "data-code", problem.code);
    const { label, act } = remedy(problem.code, this.#restart);
    setText(this.problemButton, label);
    this.problemButton.onclick = act;
  }

  #talkButton() {
    const session = this.#session;
    const button = h("button", {
      type: "button", class: "gptme-voice-talk", textContent: "Hold to talk",
      onpointerdown: (/** @type {PointerEvent} */ event) => {
        if (event.button !== 0) return;
        button.setPointerCapture(event.pointerId);
        session.talk(true);
      },
      // However it is let go, or taken out of the page while it is held.
      onlostpointercapture: () => session.talk(false),
      onclick: (/** @type {MouseEvent} */ event) => {
        // Enter, or a screen reader: it has no way to hold.
        if (event.detail === 0) session.talk(session.muted);
      },
    });
    return button;
  }

  /** @param {string} label @param {string} path @param {() => void} press */
  #control(label, path, press) {
    return h("button", {
      type: "button", class: "gptme-voice-control", "aria-label": label, title: label,
      onclick: press,
    }, icon(path));
  }
}
