// @ts-check
/** The server's part of the Voice section: which backend answers, and how. */

import { asProblem } from "../problems.js";
import { readConfig, saveConfig } from "../server-config.js";
import { openSettings } from "./anchors.js";
import { h, setAttribute, setText } from "./dom.js";
import { choice, field, toggleRow } from "./form.js";

/** @typedef {import("../server-config.js").ServerConfig} ServerConfig */
/** @typedef {import("../server-config.js").Setting} Setting */
/** @typedef {keyof typeof LABELS} Name */

const LABELS = /** @type {const} */ ({
  backend: ["Backend", "Which speech model answers."],
  model: ["Model", ""],
  voice: ["Voice", ""],
  language: ["Language", "As in en or de; empty: it is detected."],
  turn_detection: ["Your turn ends", ""],
  voice_confirm: [
    "Allow by voice what gptme asks permission for",
    "A spoken yes runs the command that was read out. A speech model decides whether it was a yes.",
  ],
  record: [
    "Record sessions",
    "What you and gptme say is saved as a sound file beside the conversation.",
  ],
});
const NAMES = /** @type {Name[]} */ (Object.keys(LABELS));
/** What the names of choices mean. @type {Readonly<Record<string, string>>} */
const CHOICES = Object.freeze({
  auto: "automatic: the first one whose key is set, or local",
  openai: "OpenAI realtime",
  xai: "xAI Grok voice",
  local: "local: any gptme model, no cloud",
  echo: "echo: plays back what you say",
  server_vad: "after a silence",
  semantic_vad: "when what was said is complete",
});
/** Why one cannot be changed here. @type {Readonly<Record<string, string>>} */
const SOURCES = Object.freeze({
  local: "Set in config.local.toml, which wins over what is saved here.",
  project: "Set by this project's gptme.toml, which wins over what is saved here.",
  env: "Set by an environment variable of gptme-server, which wins over what is saved here.",
});

export class ServerSection {
  #server;
  #sessionActive;
  #abort = new AbortController();
  /** @type {Map<Name, HTMLElement>} */
  #controls = new Map();
  /** One after the other, as they were made. */
  #saving = Promise.resolve();
  #unsaved = 0;
  /** What the server had last. @type {ServerConfig | null} */
  #config = null;

  /**
   * @param {() => import("../servers.js").Server} server Throws a Problem if there is none.
   * @param {() => boolean} sessionActive
   */
  constructor(server, sessionActive) {
    this.#server = server;
    this.#sessionActive = sessionActive;
    this.rows = h("div", { class: "gptme-voice-rows" });
    this.keys = h("div", { class: "gptme-voice-keys" });
    this.status = h("p", { class: "gptme-voice-help", role: "status" });
    this.element = h("div", { class: "gptme-voice-rows" }, h("h4", {}, "On the server"),
      this.rows, this.status);
  }

  /** Read what the server has. */
  async load() {
    this.#abort.abort();
    const { signal } = (this.#abort = new AbortController());
    try {
      const config = await readConfig(this.#server(), signal);
      if (!signal.aborted) this.#show(config);
    } catch (error) {
      if (signal.aborted) return;
      this.rows.replaceChildren();
      this.#controls.clear();
      this.#say(asProblem(error).message, true);
    }
  }

  remove() {
    this.#abort.abort();
  }

  /** @param {ServerConfig} config */
  #show(config) {
    this.#config = config;
    for (const name of NAMES) {
      const setting = config.settings[name];
      if (!setting) continue;
      let row = this.#controls.get(name);
      if (!row) {
        row = this.#row(name, setting);
        this.#controls.set(name, row);
        this.rows.append(row);
      }
      this.#update(row, setting);
    }
    this.keys.replaceChildren(...this.#keys(config));
    this.rows.append(this.keys);
    if (config.error) this.#say(config.error.message, true);
    else if (config.backend) this.#say(`Next: ${config.backend.name}, ${config.backend.reason}.`);
  }

  /** @param {Name} name @param {Setting} setting */
  #row(name, { value, default: fallback, choices }) {
    const [label, help] = LABELS[name];
    const row = {
      id: `gptme-voice-server-${name}`,
      label,
      // Always there, so that it can say more later.
      help: help || " ",
    };
    if (typeof fallback === "boolean") {
      return toggleRow({
        ...row, on: value === true, save: (on) => void this.#save({ [name]: on }),
      });
    }
    const options = {
      ...row,
      value: String(value ?? ""),
      save: (/** @type {string} */ text) => void this.#save({ [name]: text || null }),
    };
    return choices?.length
      ? choice({ ...options, choices, names: CHOICES })
      : field({ ...options, placeholder: String(fallback || "the backend's default") });
  }

  /**
   * Show what the server has now, but not over what is being typed.
   *
   * @param {HTMLElement} row @param {Setting} setting
   */
  #update(row, { value, source, editable }) {
    const control = /** @type {HTMLInputElement} */ (
      row.querySelector('input, select, [role="switch"]'));
    if (isSwitch(control)) setAttribute(control, "aria-checked", String(value === true));
    else if (control !== document.activeElement) control.value = String(value ?? "");
    control.disabled = !editable;
    const name = /** @type {Name} */ (control.id.replace("gptme-voice-server-", ""));
    const help = row.querySelector(".gptme-voice-help");
    if (help) setText(help, editable ? LABELS[name][1] : SOURCES[source]);
  }

  /** @param {ServerConfig} config */
  #keys({ keys }) {
    const list = Object.values(keys).map(({ name, present }) =>
      h("li", { "data-present": String(present) }, `${name}: ${present ? "set" : "not set"}`));
    const link = h("a", { class: "gptme-voice-link", href: "/settings/servers" },
      "Set keys in gptme's settings: Servers, Model & providers");
    link.addEventListener("click", (event) => {
      event.preventDefault();
      openSettings("Servers", link);
    });
    return [h("ul", {}, ...list), link];
  }

  /** @param {Record<string, string | boolean | null>} changes */
  #save(changes) {
    this.#unsaved++;
    this.#saving = this.#saving.then(() => this.#saveNow(changes));
    return this.#saving;
  }

  /** @param {Record<string, string | boolean | null>} changes */
  async #saveNow(changes) {
    this.#say("Saving…");
    try {
      this.#config = await saveConfig(this.#server(), changes);
      // What waits to be saved is newer than what the server has.
      if (this.#unsaved > 1) return;
      this.#show(this.#config);
      const later = this.#sessionActive()
        ? "Saved. The running session goes on as it is; this applies from the next start."
        : "Saved.";
      this.#say(`${later} ${this.status.textContent}`, this.#failed);
    } catch (error) {
      this.#turnBack();
      this.#say(asProblem(error).message, true);
    } finally {
      this.#unsaved--;
    }
  }

  /** What was not saved is not so; a text stays to be put right. */
  #turnBack() {
    for (const [name, row] of this.#controls) {
      const setting = this.#config?.settings[name];
      if (setting && row.querySelector('[role="switch"]')) this.#update(row, setting);
    }
  }

  get #failed() {
    return this.status.classList.contains("gptme-voice-problem");
  }

  /** @param {string} text @param {boolean} [failed] */
  #say(text, failed = false) {
    setText(this.status, text);
    setAttribute(this.status, "class", failed ? "gptme-voice-problem" : "gptme-voice-help");
  }
}

/** @param {Element} control */
function isSwitch(control) {
  return control.getAttribute("role") === "switch";
}
