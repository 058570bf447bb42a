// @ts-check
/**
 * What a person has set in this browser, in a localStorage key of our own: gptme's is rewritten by
 * the web UI from what it read at its start.
 *
 * @typedef {object} Preferences
 * @property {string} serverAddress Another voice server's address; empty: the conversation's own.
 * @property {boolean} showButton
 * @property {string} microphone Device id; empty: the default one.
 * @property {string} speaker Device id; empty: the default one.
 * @property {number} volume 0 to 1.
 * @property {boolean} echoCancellation
 * @property {boolean} noiseSuppression
 * @property {boolean} pushToTalk
 * @property {boolean} captions
 */

const KEY = "gptme-voice";

/** @type {Readonly<Preferences>} */
export const DEFAULTS = Object.freeze({
  serverAddress: "",
  showButton: true,
  microphone: "",
  speaker: "",
  volume: 1,
  echoCancellation: true,
  noiseSuppression: true,
  pushToTalk: false,
  captions: true,
});

/**
 * Read `text` as preferences; whatever is missing or of the wrong kind is the default.
 *
 * @param {string | null} text
 * @returns {Preferences}
 */
export function parsePreferences(text) {
  let data;
  try {
    data = JSON.parse(text ?? "{}");
  } catch {
    data = {};
  }
  /** @type {Record<string, unknown>} */
  const result = { ...DEFAULTS };
  for (const [name, value] of Object.entries(DEFAULTS)) {
    const stored = data?.[name];
    if (typeof stored === typeof value) result[name] = stored;
  }
  const preferences = /** @type {Preferences} */ (/** @type {unknown} */ (result));
  preferences.serverAddress = preferences.serverAddress.trim();
  if (!(preferences.volume >= 0 && preferences.volume <= 1)) preferences.volume = DEFAULTS.volume;
  return preferences;
}

/**
 * The preferences, kept in localStorage and in step with the browser's other tabs.
 *
 * Fires `change` with `detail` = the names that changed.
 */
export class PreferenceStore extends EventTarget {
  /** @param {Storage | null} storage None where the browser gives none: then for this page. */
  constructor(storage) {
    super();
    this.storage = storage;
    /** @type {Readonly<Preferences>} */
    this.current = parsePreferences(storage?.getItem(KEY) ?? null);
    globalThis.addEventListener?.("storage", (event) => {
      if (event.key === KEY || event.key === null) this.#take(parsePreferences(event.newValue));
    });
  }

  /** @param {Partial<Preferences>} changes */
  save(changes) {
    const text = JSON.stringify({ ...this.current, ...changes });
    try {
      this.storage?.setItem(KEY, text);
    } catch {
      // Full or forbidden: it still holds for this page.
    }
    this.#take(parsePreferences(text));
  }

  /** @param {Preferences} next */
  #take(next) {
    const names = /** @type {(keyof Preferences)[]} */ (Object.keys(DEFAULTS));
    const changed = names.filter((name) => next[name] !== this.current[name]);
    this.current = next;
    if (changed.length) this.dispatchEvent(new CustomEvent("change", { detail: changed }));
  }
}

/** @returns {Storage | null} */
export function browserStorage() {
  try {
    return globalThis.localStorage;
  } catch {
    return null;
  }
}
