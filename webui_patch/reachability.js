// @ts-check
/** Whether servers of other origins have the plugin: they are asked before a button offers it. */

import { asProblem } from "./problems.js";
import { diagnose } from "./servers.js";

/** How long an answer holds, in milliseconds. */
const VALID_MS = 60_000;

/** Codes of what hinders a session before it has been tried. */
const HINDERS = new Set(["plugin_missing", "server_unasked", "login_missing", "refused"]);

export class Reachability {
  #onAnswer;
  /** @type {Map<string, {at: number, problem: import("./problems.js").Problem | null}>} */
  #answers = new Map();

  /** @param {() => void} onAnswer */
  constructor(onAnswer) {
    this.#onAnswer = onAnswer;
  }

  /**
   * Return what is known to hinder a session; asks if nothing is known.
   *
   * @param {() => import("./servers.js").Server} find May throw a Problem.
   * @returns {import("./problems.js").Problem | null}
   */
  problem(find) {
    let server;
    try {
      server = find();
    } catch (error) {
      return asProblem(error);
    }
    // The one this page is from has the plugin, or the page would not have this script.
    if (new URL(server.base).origin === location.origin) return null;
    const key = `${server.base} ${server.token}`;
    const known = this.#answers.get(key);
    if (!known || performance.now() - known.at > VALID_MS) {
      this.#answers.set(key, { at: performance.now(), problem: known?.problem ?? null });
      void this.#ask(key, server);
    }
    return known?.problem ?? null;
  }

  /** @param {string} key @param {import("./servers.js").Server} server */
  async #ask(key, server) {
    let problem = await diagnose(server).catch(asProblem);
    if (problem && !HINDERS.has(problem.code)) problem = null;
    this.#answers.set(key, { at: performance.now(), problem });
    this.#onAnswer();
  }
}
