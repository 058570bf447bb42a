// @ts-check
/**
 * Keeps our button in every chat form, and the strip above the right one. React makes the forms
 * anew whenever it likes, so this is called after every change of the page, and is quick when there
 * is nothing to do.
 */

import {
  addressedConversation, chatForms, isChatPage, messagesPane, stockVoiceButtons,
} from "./anchors.js";
import { createButton, updateButton } from "./button.js";
import { h } from "./dom.js";
import { Room } from "./room.js";

/** How long a chat page may be without the form we look for, in milliseconds. */
export const PATIENCE_MS = 5000;

const BUTTON = '[data-testid="gptme-voice-button"]';
const REPLACED = "data-gptme-voice-replaced";

/** @typedef {import("../session.js").Conversation} Conversation */

export class Placement {
  #session;
  #preferences;
  #strip;
  #press;
  #off;
  #room;
  #root = h("div", { class: "gptme-voice gptme-voice-root" });
  /** @type {HTMLElement | null} */
  #floating = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #patience;
  #lostPatience = false;

  /**
   * @param {import("../session.js").VoiceSession} session
   * @param {import("../preferences.js").PreferenceStore} preferences
   * @param {import("./strip.js").Strip} strip
   * @param {{press: (conversation: Conversation) => void, off: () => string}} actions `press`: a
   *   button was pressed. `off`: why there is no voice on this page; empty if there is.
   */
  constructor(session, preferences, strip, { press, off }) {
    this.#session = session;
    this.#preferences = preferences;
    this.#strip = strip;
    this.#room = new Room(strip.element);
    this.#press = press;
    this.#off = off;
  }

  /** Put everything where it belongs. */
  ensure() {
    if (!this.#root.isConnected) document.body.append(this.#root);
    const chats = chatForms();
    const wanted = this.#preferences.current.showButton || this.#session.active;
    const off = this.#off();
    for (const chat of chats) {
      const found = /** @type {HTMLElement | null} */ (chat.form.querySelector(BUTTON));
      if (wanted) {
        // The form may have been taken over by another conversation meanwhile.
        const button = found ?? createButton(() => this.#pressIn(chat.form));
        updateButton(button, this.#session, off);
        if (!found) chat.submit.before(button);
      } else {
        found?.remove();
      }
      for (const stock of stockVoiceButtons(chat)) stock.toggleAttribute(REPLACED, wanted);
    }
    this.#ensureFloating(wanted && chats.length === 0, off);
    this.#placeStrip(chats);
  }

  /** The conversation that a key press is meant for. */
  get current() {
    const chats = chatForms();
    const focused = chats.find(({ form }) => form.contains(document.activeElement));
    return (focused ?? chats[0])?.conversation ?? addressedConversation();
  }

  /** @param {HTMLFormElement} form */
  #pressIn(form) {
    const chat = chatForms().find((known) => known.form === form);
    this.#press(chat?.conversation ?? this.current);
  }

  /** @param {import("./anchors.js").ChatForm[]} chats */
  #placeStrip(chats) {
    const { element } = this.#strip;
    const root = this.#root;
    const own = this.#session.conversation?.id ?? null;
    const chat = chats.find(({ conversation }) => conversation.id === own) ?? chats[0];
    const there = chat ? element.nextElementSibling === chat.form : element.parentElement === root;
    if (!there) {
      const focused = element.contains(document.activeElement) ? document.activeElement : null;
      if (chat) chat.form.before(element);
      else root.prepend(element);
      if (focused instanceof HTMLElement) focused.focus({ preventScroll: true });
      this.#strip.captions.moved();
    }
    this.#room.below(chat ? messagesPane(chat) : null);
    const shown = chat?.conversation ?? (isChatPage(location) ? addressedConversation() : null);
    this.#strip.showIn(shown ? shown.id : undefined);
  }

  /** @param {boolean} missing @param {string} off */
  #ensureFloating(missing, off) {
    if (!missing || !isChatPage(location)) {
      clearTimeout(this.#patience);
      this.#patience = undefined;
      this.#floating?.remove();
      return;
    }
    if (!this.#lostPatience) {
      this.#patience ??= setTimeout(() => {
        this.#lostPatience = true;
        console.warn(
          "gptme-voice-plugin: this web UI has no chat form it knows; its button floats instead.",
        );
        this.ensure();
      }, PATIENCE_MS);
      return;
    }
    this.#floating ??= createButton(() => this.#press(this.current));
    updateButton(this.#floating, this.#session, off);
    if (!this.#floating.isConnected) this.#root.append(this.#floating);
  }
}
