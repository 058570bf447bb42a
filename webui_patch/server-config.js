// @ts-check
/**
 * The server's part of the settings: read and saved through the plugin's own route.
 *
 * @typedef {object} Setting
 * @property {unknown} value
 * @property {unknown} default
 * @property {"default" | "user" | "local" | "project" | "env"} source
 * @property {boolean} editable Whether what is saved here would have an effect.
 * @property {string} help
 * @property {string[]} [choices]
 *
 * @typedef {object} ServerConfig
 * @property {Record<string, Setting>} settings
 * @property {Record<string, {name: string, present: boolean}>} keys
 * @property {{name: string, reason: string}} [backend] What a session would get.
 * @property {{code: string, message: string}} [error] Why it would get none.
 */

import { ask } from "./servers.js";

/** @param {import("./servers.js").Server} server @param {AbortSignal} signal */
export async function readConfig(server, signal) {
  return /** @type {ServerConfig} */ (await (await ask(server, "config", { signal })).json());
}

/**
 * @param {import("./servers.js").Server} server
 * @param {Record<string, string | boolean | null>} settings None: back to the default.
 * @returns {Promise<ServerConfig>}
 */
export async function saveConfig(server, settings) {
  const response = await ask(server, "config", {
    method: "PATCH",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ settings }),
  });
  return response.json();
}
