// @ts-check
/** What a person can do about a problem with one press. */

import { navigate, openSettings } from "./anchors.js";

const IN_SETTINGS = new Set([
  "backend_unavailable", "config_invalid", "extra_missing", "microphone_gone_chosen",
  "model_unknown", "server_address_wrong",
]);
const IN_KEYS = new Set(["key_missing", "key_refused"]);
const BY_RELOADING = new Set([
  "audio_parts_missing", "internal_error", "login_missing", "protocol_error",
]);

/**
 * @param {string} code Of the problem.
 * @param {() => void} restart Starts the session again.
 * @returns {{label: string, act: () => void}}
 */
export function remedy(code, restart) {
  if (IN_SETTINGS.has(code)) {
    return { label: "Open settings", act: () => openSettings("Audio") };
  }
  if (IN_KEYS.has(code)) {
    return { label: "Open key settings", act: () => openSettings("Servers") };
  }
  if (code === "conversation_unknown") {
    return { label: "New conversation", act: () => navigate("/") };
  }
  if (BY_RELOADING.has(code)) return { label: "Reload", act: () => location.reload() };
  return { label: "Start again", act: restart };
}
