// @ts-check
/** "Test microphone and speaker" in the Voice section. */

import { asProblem } from "../problems.js";
import { SoundTest } from "../sound-test.js";
import { h, setText } from "./dom.js";
import { meter } from "./labels.js";

const STEPS = /** @type {const} */ ({
  starting: "Starting…",
  speak: "Say something, then pause.",
  playing: "You were heard; listen.",
  done: "",
});

export class TestSection {
  #session;
  #server;
  #test;
  #onSession = () => this.#update();

  /**
   * @param {import("../session.js").VoiceSession} session
   * @param {import("../preferences.js").PreferenceStore} preferences
   * @param {() => import("../servers.js").Server} server Throws a Problem if there is none.
   * @param {() => void} onMicrophone A microphone was opened.
   */
  constructor(session, preferences, server, onMicrophone) {
    this.#session = session;
    this.#server = server;
    this.#test = new SoundTest(preferences, onMicrophone);
    this.button = h("button", {
      type: "button", class: "gptme-voice-action", "data-testid": "gptme-voice-test",
      onclick: () => this.#press(),
    });
    this.bar = h("span", { class: "gptme-voice-bar" });
    this.verdict = h("p", {
      class: "gptme-voice-help", role: "status", "data-testid": "gptme-voice-verdict",
    });
    this.element = h("div", { class: "gptme-voice-rows" },
      h("div", { class: "gptme-voice-row" }, this.button,
        h("span", { class: "gptme-voice-meter gptme-voice-wide", role: "presentation" }, this.bar)),
      this.verdict);
    this.#test.addEventListener("change", () => this.#update());
    session.addEventListener("change", this.#onSession);
    this.#update();
  }

  remove() {
    this.#test.stop();
    this.#session.removeEventListener("change", this.#onSession);
  }

  #press() {
    if (this.#test.running) {
      this.#test.stop();
      return;
    }
    try {
      void this.#test.start(this.#server());
    } catch (error) {
      setText(this.verdict, asProblem(error).message);
    }
  }

  #update() {
    const { running, step, verdict, good, level } = this.#test;
    const busy = this.#session.active && !running;
    this.button.disabled = busy;
    setText(this.button, running ? "Stop the test" : "Test microphone and speaker");
    this.bar.style.transform = `scaleX(${meter(level).toFixed(3)})`;
    const text = busy ? "End the voice session first." : verdict || STEPS[step];
    setText(this.verdict, text);
    this.verdict.dataset.verdict = running || !verdict ? "" : good ? "good" : "bad";
  }
}
