// @ts-check
/** @typedef {import("./protocol.js").Usage} Usage */

/**
 * Return what a session has used: the server counts for each connection.
 *
 * @param {Usage | null} before @param {Usage} current
 * @returns {Usage}
 */
export function totalUsage(before, current) {
  if (!before) return current;
  const total = { ...current };
  for (const name of /** @type {const} */ ([
    "input_audio_ms", "output_audio_ms", "input_tokens", "output_tokens",
  ])) {
    total[name] += before[name];
  }
  if (current.cost_usd !== undefined || before.cost_usd !== undefined) {
    total.cost_usd = (current.cost_usd ?? 0) + (before.cost_usd ?? 0);
  }
  return total;
}
