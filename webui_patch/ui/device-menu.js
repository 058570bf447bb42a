// @ts-check
/** The choice of microphone, speaker and volume, in the strip and in the settings. */

import { canChooseSpeaker } from "../audio-context.js";
import { listDevices, onDevicesChange } from "../recorder.js";
import { h, setAttribute } from "./dom.js";

/** @typedef {import("../preferences.js").PreferenceStore} PreferenceStore */

let menus = 0;

/** Three labelled controls that follow the preferences and the devices that are plugged in. */
export class DeviceControls {
  #preferences;
  #unsubscribe = () => {};

  /** @param {PreferenceStore} preferences */
  constructor(preferences) {
    this.#preferences = preferences;
    const id = `gptme-voice-devices-${++menus}`;
    this.microphone = this.#select("microphone");
    this.speaker = this.#select("speaker");
    this.volume = h("input", {
      type: "range", min: "0", max: "1", step: "0.05", class: "gptme-voice-range",
      oninput: () => preferences.save({ volume: Number(this.volume.value) }),
    });
    this.speakerRow = this.#row(`${id}-speaker`, "Speaker", this.speaker);
    this.rows = [
      this.#row(`${id}-microphone`, "Microphone", this.microphone),
      this.speakerRow,
      this.#row(`${id}-volume`, "Volume", this.volume),
    ];
  }

  /** Follow the world until `release`. */
  hold() {
    this.release();
    const follow = () => void this.refresh();
    const unsubscribe = onDevicesChange(follow);
    this.#preferences.addEventListener("change", follow);
    this.#unsubscribe = () => {
      unsubscribe();
      this.#preferences.removeEventListener("change", follow);
    };
    follow();
  }

  release() {
    this.#unsubscribe();
    this.#unsubscribe = () => {};
  }

  async refresh() {
    const { current } = this.#preferences;
    this.speakerRow.hidden = !canChooseSpeaker();
    this.volume.value = String(current.volume);
    // A browser that tells of none has the default ones.
    const none = { microphones: [], speakers: [] };
    const { microphones, speakers } = await listDevices().catch(() => none);
    this.#fill(this.microphone, microphones, current.microphone);
    this.#fill(this.speaker, speakers, current.speaker);
  }

  /** @param {"microphone" | "speaker"} name */
  #select(name) {
    const select = h("select", {
      class: "gptme-voice-input",
      onchange: () => this.#preferences.save({ [name]: select.value }),
    });
    return select;
  }

  /** @param {string} id @param {string} label @param {HTMLElement} control */
  #row(id, label, control) {
    control.id = id;
    return h("div", { class: "gptme-voice-field" }, h("label", { for: id }, label), control);
  }

  /**
   * @param {HTMLSelectElement} select @param {{id: string, label: string}[]} devices
   * @param {string} chosen
   */
  #fill(select, devices, chosen) {
    const options = [{ id: "", label: "Default" }, ...devices];
    if (chosen && !devices.some(({ id }) => id === chosen)) {
      options.push({ id: chosen, label: "The chosen one (not connected)" });
    }
    select.replaceChildren(
      ...options.map(({ id, label }) => h("option", { value: id }, label || "Unnamed")),
    );
    select.value = chosen;
  }
}

/** The controls, behind a button of the strip. */
export class DeviceMenu {
  #button;
  #controls;

  /** @param {PreferenceStore} preferences @param {HTMLElement} button */
  constructor(preferences, button) {
    this.#button = button;
    this.#controls = new DeviceControls(preferences);
    this.element = h("div", { class: "gptme-voice-devices", hidden: true }, ...this.#controls.rows);
    setAttribute(button, "aria-expanded", "false");
  }

  toggle() {
    if (this.element.hidden) this.#open();
    else this.close();
  }

  #open() {
    this.#controls.hold();
    this.element.hidden = false;
    setAttribute(this.#button, "aria-expanded", "true");
  }

  close() {
    if (this.element.hidden) return;
    this.#controls.release();
    this.element.hidden = true;
    setAttribute(this.#button, "aria-expanded", "false");
  }
}
