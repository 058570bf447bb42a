// @ts-check
/**
 * Where gptme's web UI has what ours is put beside: the only place that knows its page. What is
 * looked for is stable across its versions (test ids, labels, ids of settings).
 *
 * @typedef {object} ChatForm
 * @property {HTMLFormElement} form
 * @property {HTMLElement} submit The send button; ours goes before it.
 * @property {import("../session.js").Conversation} conversation
 */

const INPUTS = 'textarea[data-testid="chat-input"], textarea[aria-label="Chat message"]';
const STOCK_VOICE = [
  "Start voice session", "Connecting to voice server", "Recording — click to stop",
  "Ending session", "Voice error",
].map((label) => `button[aria-label^="${label}"]`).join(", ");

/** @param {{pathname: string}} location Whether there should be a chat form. */
export function isChatPage({ pathname }) {
  return pathname === "/" || /^\/chat(\/|$)/.test(pathname);
}

/**
 * Whether a page is the one that conversations are begun on.
 *
 * @param {{pathname: string, search: string}} location
 */
export function isWelcomePage({ pathname, search }) {
  const elsewhere = new URLSearchParams(search).has("external");
  return /^\/(chat\/?)?$/.test(pathname) && !elsewhere &&
    shownConversations({ pathname, search }).length === 0;
}

/** Whether something waits in a composer to be sent. */
export function isComposing() {
  const inputs = /** @type {NodeListOf<HTMLTextAreaElement>} */ (document.querySelectorAll(INPUTS));
  return [...inputs].some((input) => input.value.trim() !== "");
}

/** @param {Element} selector Of the model. @returns {string} What it shows; empty if nothing. */
export function chatModelLabel(selector) {
  return selector.getAttribute("aria-label")?.match(/^Model: (.+)$/)?.[1] ?? "";
}

/** @returns {ChatForm[]} In the order they are shown. */
export function chatForms() {
  /** @type {ChatForm[]} */
  const found = [];
  for (const input of document.querySelectorAll(INPUTS)) {
    const form = input.closest("form");
    /** @type {HTMLElement | null | undefined} */
    const submit = form?.querySelector('button[type="submit"]');
    if (form && submit && !found.some((known) => known.form === form)) {
      found.push({ form, submit, conversation: { id: null, title: "", path: "" } });
    }
  }
  const ids = shownConversations(location);
  found.forEach((chat, index) => {
    chat.conversation = conversationOf(ids[index] ?? ids[0] ?? null, location);
  });
  return found;
}

/** @returns {import("../session.js").Conversation} The one that the page's address names. */
export function addressedConversation() {
  return conversationOf(shownConversations(location)[0] ?? null, location);
}

/**
 * The ids of the conversations a page shows, in order; empty on the welcome page.
 *
 * @param {{pathname: string, search: string}} location
 * @returns {string[]}
 */
export function shownConversations({ pathname, search }) {
  const split = new URLSearchParams(search).get("split");
  if (split) return split.split(",").filter(Boolean);
  const encoded = pathname.match(/^\/chat\/(.+?)\/?$/)?.[1];
  if (!encoded) return [];
  try {
    return [decodeURIComponent(encoded)];
  } catch {
    return [encoded];
  }
}

/**
 * @param {string | null} id @param {{search: string}} location
 * @returns {import("../session.js").Conversation}
 */
function conversationOf(id, { search }) {
  const server = new URLSearchParams(search).get("server");
  const query = server ? `?server=${encodeURIComponent(server)}` : "";
  if (!id) return { id: null, title: "a new conversation", path: `/${query}` };
  return { id, title: id, path: `/chat/${encodeURIComponent(id)}${query}` };
}

/** @param {ChatForm} chat @returns {HTMLElement | null} What scrolls the messages above it. */
export function messagesPane({ form }) {
  let box = form.parentElement;
  for (; box && box !== document.body; box = box.parentElement) {
    for (const beside of box.parentElement?.children ?? []) {
      const scrolls = beside !== box && /auto|scroll/.test(getComputedStyle(beside).overflowY);
      if (scrolls && beside instanceof HTMLElement) return beside;
    }
  }
  return null;
}

/** @param {ChatForm} chat @returns {HTMLElement[]} gptme's own voice buttons in it. */
export function stockVoiceButtons({ form }) {
  return [...form.querySelectorAll(STOCK_VOICE)].map((found) => /** @type {HTMLElement} */ (found));
}

/** @returns {HTMLElement | null} The panel of Settings > Audio, where it is shown. */
export function audioPanel() {
  const field =
    document.getElementById("voice-server-url") ?? document.getElementById("chime-toggle");
  return field?.closest(".space-y-6") ?? null;
}

/** Show a page of the web UI without loading it anew. */
export function navigate(/** @type {string} */ path) {
  history.pushState({}, "", path);
  dispatchEvent(new PopStateEvent("popstate", { state: {} }));
}

/**
 * Show a category of the settings: in the open dialog, if `inside` is in one, else as a page.
 *
 * @param {"Audio" | "Servers"} name
 * @param {Element} [inside]
 */
export function openSettings(name, inside) {
  const dialog = inside?.closest('[role="dialog"]');
  const tabs = /** @type {HTMLElement[]} */ ([...(dialog?.querySelectorAll("nav button") ?? [])]);
  const tab = tabs.find((button) => button.querySelector(".font-medium")?.textContent === name);
  if (tab) tab.click();
  else navigate(`/settings/${name.toLowerCase()}`);
}
