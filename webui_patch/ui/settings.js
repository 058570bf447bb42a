// @ts-check
/**
 * The "Voice" section of Settings > Audio, in the dialog and on the page alike.
 *
 * React uses the same panel element for other categories, so the section is put in and taken out
 * with every change of the page.
 */

import { asProblem } from "../problems.js";
import { audioPanel } from "./anchors.js";
import { DeviceControls } from "./device-menu.js";
import { field, switchRow } from "./form.js";
import { h, setText } from "./dom.js";
import { SHORTCUT } from "./labels.js";
import { ServerSection } from "./server-settings.js";
import { TestSection } from "./test-section.js";

const LATER = "The running session goes on as it is; this applies from the next start.";

/** @typedef {import("../session.js").VoiceSession} VoiceSession */
/** @typedef {import("../preferences.js").PreferenceStore} PreferenceStore */

export class VoiceSettings {
  #session;
  #preferences;
  #server;
  /** @type {{element: HTMLElement, remove: () => void} | null} */
  #shown = null;

  /**
   * @param {VoiceSession} session @param {PreferenceStore} preferences
   * @param {() => import("../servers.js").Server} server Throws a Problem if there is none.
   */
  constructor(session, preferences, server) {
    this.#session = session;
    this.#preferences = preferences;
    this.#server = server;
  }

  /** Put the section where the audio settings are, and nowhere else. */
  ensure() {
    const panel = audioPanel();
    if (this.#shown && panel !== this.#shown.element.parentElement) {
      this.#shown.element.remove();
      this.#shown.remove();
      this.#shown = null;
    }
    if (panel && !this.#shown) {
      this.#shown = this.#build();
      panel.append(this.#shown.element);
    } else if (panel && this.#shown && panel.lastElementChild !== this.#shown.element) {
      panel.append(this.#shown.element);
    }
  }

  #build() {
    const preferences = this.#preferences;
    const { current } = preferences;
    const later = h("p", { class: "gptme-voice-help", role: "status" });
    const addressProblem = h("p", { class: "gptme-voice-problem", role: "alert", hidden: true });
    const address = field({
      id: "gptme-voice-address",
      label: "Voice server",
      help: "Another machine's or a hosted one, as in wss://host/voice. Empty: the server of the " +
        "conversation.",
      placeholder: "this server",
      value: current.serverAddress,
      save: (serverAddress) => {
        preferences.save({ serverAddress });
        this.#check(addressProblem);
        setText(later, this.#session.active ? LATER : "");
        void server.load();
      },
    });
    const devices = new DeviceControls(preferences);
    devices.hold();
    // Devices have names once the microphone has been allowed.
    const follow = () => void devices.refresh();
    this.#session.addEventListener("device", follow);
    const server = new ServerSection(this.#server, () => this.#session.active);
    const test = new TestSection(this.#session, preferences, this.#server, follow);
    void server.load();
    const element = h(
      "section",
      {
        class: "gptme-voice gptme-voice-settings", "data-testid": "gptme-voice-settings",
        "aria-labelledby": "gptme-voice-heading",
      },
      h("h3", { id: "gptme-voice-heading" }, "Voice"),
      h("p", { class: "gptme-voice-help" },
        "Live conversation with gptme, by the voice plugin: press the wave in the chat input, or ",
        h("kbd", {}, SHORTCUT), ". It takes the place of the voice button that the Voice server " +
        "URL above belongs to."),
      switchRow(preferences, "showButton", "Show the voice button", ""),
      ...devices.rows,
      switchRow(preferences, "echoCancellation", "Echo cancellation",
        "Keeps gptme from hearing itself. Off only with headphones."),
      switchRow(preferences, "noiseSuppression", "Noise suppression", ""),
      switchRow(preferences, "pushToTalk", "Push to talk",
        "Hold Space, or the button, while you speak; otherwise the microphone is off."),
      switchRow(preferences, "captions", "Captions", "Show what both sides say while they say it."),
      test.element,
      server.element,
      h("h4", {}, "Where"),
      address, addressProblem, later,
    );
    return {
      element,
      remove: () => {
        devices.release();
        this.#session.removeEventListener("device", follow);
        test.remove();
        server.remove();
      },
    };
  }

  /** @param {HTMLElement} place Where to say that the address is none. */
  #check(place) {
    let text = "";
    try {
      this.#server();
    } catch (error) {
      text = asProblem(error).message;
    }
    setText(place, text);
    place.hidden = !text;
  }
}
