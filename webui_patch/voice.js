// @ts-check
/**
 * The entry: gptme-server puts a script element for this module into every page of its web UI. It
 * makes the session and its parts, and keeps them in the page.
 */

import { browserStorage, PreferenceStore } from "./preferences.js";
import { Reachability } from "./reachability.js";
import { baseOfScript, queryOf, registryText, serverAt, serverOf } from "./servers.js";
import { VoiceSession } from "./session.js";
import { isComposing, isWelcomePage, navigate } from "./ui/anchors.js";
import { Arrival } from "./ui/arrival.js";
import { h } from "./ui/dom.js";
import { listenToKeys } from "./ui/keys.js";
import { Placement } from "./ui/placement.js";
import { VoiceSettings } from "./ui/settings.js";
import { Strip } from "./ui/strip.js";
import { markUnheard } from "./ui/unheard.js";
import { chosenChatModel, refreshConversations } from "./ui/web-ui-state.js";

/** @typedef {import("./session.js").Conversation} Conversation */

/** What the first press would wait for, and a server that is gone by then would not give. */
const WORKLET_FILES = [
  "capture.js", "dsp.js", "jitter.js", "player-worklet.js", "playout.js", "recorder-worklet.js",
];

function main() {
  const storage = browserStorage();
  const preferences = new PreferenceStore(storage);
  const session = new VoiceSession(preferences);
  const home = baseOfScript(import.meta.url);

  /** The server a session from this page would go to; throws a Problem if that is none. */
  const server = () => {
    const { serverAddress } = preferences.current;
    const registry = registryText(storage);
    return serverAddress ? serverAt(serverAddress, registry) : serverOf(location, registry, home);
  };
  const reachability = new Reachability(() => schedule());

  /** @param {Conversation} conversation */
  const start = (conversation) => {
    // Where it goes is settled now, not by what the page shows when it connects again.
    let chosen;
    let elsewhere = false;
    try {
      chosen = server();
      elsewhere = chosen.base !== serverOf(location, registryText(storage), home).base;
    } catch (error) {
      session.refuse(/** @type {import("./problems.js").Problem} */ (error));
      return;
    }
    void session.start({
      conversation,
      server: chosen,
      elsewhere,
      pathOf: (id) => pathOf(chosen, id),
      // Another server need not have the model.
      chatModel: conversation.id === null && !preferences.current.serverAddress
        ? chosenChatModel() : undefined,
    });
  };
  /** @param {import("./servers.js").Server} of @param {string} id */
  const pathOf = (of, id) => {
    const query = queryOf(of, registryText(storage), home);
    return query === null ? "" : `/chat/${encodeURIComponent(id)}${query}`;
  };
  const arrival = new Arrival(() => {
    const { id, path } = session.conversation ?? {};
    // Who has gone elsewhere, or is writing, is not taken away from there: the strip has the way.
    if (id && path && isWelcomePage(location) && !isComposing()) navigate(path);
    refreshConversations();
  });
  session.addEventListener("conversation", () => arrival.due(session));
  session.addEventListener("change", () => arrival.follow(session));
  /** @param {Conversation} conversation */
  const toggle = (conversation) => {
    if (session.active) session.stop();
    else start(conversation);
  };
  const strip = new Strip(session, preferences, {
    restart: () => start(session.conversation ?? placement.current),
    open: navigate,
  });
  const off = () => reachability.problem(server)?.message ?? "";
  const placement = new Placement(session, preferences, strip, { press: toggle, off });
  const settings = new VoiceSettings(session, preferences, server);

  let scheduled = false;
  const schedule = () => {
    if (scheduled) return;
    scheduled = true;
    requestAnimationFrame(() => {
      scheduled = false;
      placement.ensure();
      markUnheard();
    });
  };

  const appear = () => {
    new MutationObserver(() => {
      // At once: the web UI uses the settings' panel for another tab, where ours has no business.
      settings.ensure();
      schedule();
    }).observe(document.body, { childList: true, subtree: true });
    settings.ensure();
    placement.ensure();
  };
  // Not before it has its looks: nothing in the page is to move.
  document.head.append(h("link", {
    rel: "stylesheet", href: new URL("./voice.css", import.meta.url).href,
    onload: appear, onerror: appear,
  }));
  for (const source of [session, preferences]) source.addEventListener("change", schedule);
  addEventListener("popstate", schedule);
  addEventListener("pagehide", () => session.stop());
  listenToKeys({
    toggle: () => toggle(placement.current),
    pushToTalk: () => session.active && preferences.current.pushToTalk,
    talk: (on) => session.talk(on),
  });
  for (const file of WORKLET_FILES) {
    // Read to its end, or it may not be kept. Whoever needs it will say that it is missing.
    fetch(new URL(file, import.meta.url)).then((response) => response.blob()).catch(() => {});
  }
}

main();
