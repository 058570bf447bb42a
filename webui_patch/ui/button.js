// @ts-check
/** The voice button of a chat form. */

import { h, icon, ICONS, setAttribute } from "./dom.js";
import { buttonLabel, SHORTCUT } from "./labels.js";

/**
 * Make a button; `press` is what it does.
 *
 * @param {() => void} press
 */
export function createButton(press) {
  return h(
    "button",
    {
      // In a form, any other type sends the message.
      type: "button",
      class: "gptme-voice-button",
      "data-testid": "gptme-voice-button",
      onclick: press,
    },
    icon(ICONS.waveform),
  );
}

/**
 * @param {HTMLElement} button
 * @param {import("../session.js").VoiceSession} session
 * @param {string} off Why there is no voice here; empty if there is.
 */
export function updateButton(button, session, off) {
  const label = buttonLabel(session, off);
  setAttribute(button, "aria-label", label);
  setAttribute(button, "title", `${label} (${SHORTCUT})`);
  setAttribute(button, "aria-pressed", String(session.active));
  setAttribute(button, "data-state", off && !session.active ? "off" : session.state);
  setAttribute(button, "data-problem", String(session.problem !== null));
}
