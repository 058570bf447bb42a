// @ts-check
/** Rows of the settings, as gptme's own look. */

import { h, setAttribute } from "./dom.js";

/** @typedef {import("../preferences.js").PreferenceStore} PreferenceStore */
/**
 * @typedef {"showButton" | "echoCancellation" | "noiseSuppression" | "pushToTalk" | "captions"}
 *   Flag
 */

/**
 * A switch for a preference.
 *
 * @param {PreferenceStore} preferences @param {Flag} name @param {string} label
 * @param {string} help Empty: none.
 */
export function switchRow(preferences, name, label, help) {
  const id = `gptme-voice-${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
  const on = preferences.current[name];
  return toggleRow({ id, label, help, on, save: (now) => preferences.save({ [name]: now }) });
}

/**
 * A switch, which turns at once.
 *
 * @param {{id: string, label: string, help: string, on: boolean, save: (on: boolean) => void}}
 *   options `help`: empty: none.
 */
export function toggleRow({ id, label, help, on, save }) {
  const toggle = h("button", {
    type: "button", role: "switch", id, class: "gptme-voice-switch", "aria-checked": String(on),
    onclick: () => {
      const now = toggle.getAttribute("aria-checked") !== "true";
      setAttribute(toggle, "aria-checked", String(now));
      save(now);
    },
  }, h("span", {}));
  return h("div", { class: "gptme-voice-field gptme-voice-toggle" },
    labelled(id, label, help), toggle);
}

/**
 * A field of text that is saved, trimmed, when it is left or Enter is pressed.
 *
 * @param {{id: string, label: string, help: string, placeholder: string, value: string,
 *   suggestions?: readonly string[], save: (value: string) => void}} options
 */
export function field({ id, label, help, placeholder, value, suggestions = [], save }) {
  const input = h("input", {
    type: "text", id, class: "gptme-voice-input", placeholder, value,
    autocomplete: "off", spellcheck: false,
    onchange: () => {
      input.value = input.value.trim();
      save(input.value);
    },
  });
  const row = h("div", { class: "gptme-voice-field" }, labelled(id, label, help), input);
  if (suggestions.length) {
    const options = suggestions.map((suggestion) => h("option", { value: suggestion }));
    row.append(h("datalist", { id: `${id}-list` }, ...options));
    input.setAttribute("list", `${id}-list`);
  }
  return row;
}

/**
 * @param {{id: string, label: string, help: string, value: string, choices: readonly string[],
 *   names: Readonly<Record<string, string>>, save: (value: string) => void}} options `names`: what
 *   people read.
 */
export function choice({ id, label, help, value, choices, names, save }) {
  const select = h("select", {
    id, class: "gptme-voice-input", onchange: () => save(select.value),
  }, ...choices.map((name) => h("option", { value: name }, names[name] ?? name)));
  select.value = value;
  return h("div", { class: "gptme-voice-field" }, labelled(id, label, help), select);
}

/** @param {string} id @param {string} label @param {string} help */
function labelled(id, label, help) {
  const row = h("div", {}, h("label", { for: id }, label));
  if (help) row.append(h("p", { class: "gptme-voice-help" }, help));
  return row;
}
