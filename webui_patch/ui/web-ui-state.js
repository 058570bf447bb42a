// @ts-check
/**
 * What gptme's web UI keeps to itself, in React: the model chosen on its welcome page, which it
 * stores nowhere, and its list of conversations. Only names that are no business of a minifier are
 * used (hooks of React, the `client` of react-query), all of it is a bonus, and where it is not
 * found, nothing happens.
 */

import { chatModelLabel } from "./anchors.js";

/** How many hooks of a component are looked at, and how many components above an element. */
const FAR = 500;

/**
 * @typedef {{memoizedState: any, memoizedProps: any, return: Fiber | null}} Fiber React's record of
 *   an element or a component.
 */

/**
 * The model that a person has chosen on the welcome page for the conversation that begins there.
 *
 * @returns {string | undefined} None if none was chosen: gptme's default is used then.
 */
export function chosenChatModel() {
  const selector = document.querySelector('[data-testid="model-selector"]');
  const label = selector && chatModelLabel(selector);
  if (!label) return undefined;
  return find(selector, (fiber) => chosenIn(hookStates(fiber), label));
}

/**
 * In the composer's state, "was one chosen?" comes right before "which one?".
 *
 * @param {readonly unknown[]} states @param {string} label What is shown of it.
 * @returns {string | undefined}
 */
export function chosenIn(states, label) {
  const model = states.find((state, index) =>
    typeof state === "string" && states[index - 1] === true &&
    (state === label || state.endsWith(`/${label}`)));
  return /** @type {string | undefined} */ (model);
}

/** Have the web UI read its list of conversations again, as it does when it has made one. */
export function refreshConversations() {
  const client = find(document.querySelector("main, form"), ({ memoizedProps }) => {
    const found = memoizedProps?.client;
    return typeof found?.invalidateQueries === "function" ? found : undefined;
  });
  for (const key of ["conversations", "secondary-conversations"]) {
    Promise.resolve(client?.invalidateQueries({ queryKey: [key] })).catch(() => {});
  }
}

/** @param {Fiber} fiber @returns {unknown[]} What its hooks hold now, in their order. */
function hookStates(fiber) {
  const states = [];
  let hook = fiber.memoizedState;
  while (hook && typeof hook === "object" && "next" in hook && states.length < FAR) {
    // The queue is the newest: of the rest, React keeps two copies.
    states.push(hook.queue ? hook.queue.lastRenderedState : undefined);
    hook = hook.next;
  }
  return states;
}

/**
 * @template T
 * @param {Element | null | undefined} element
 * @param {(fiber: Fiber) => T | undefined} look
 * @returns {T | undefined} The first that is found, from the element upwards.
 */
function find(element, look) {
  try {
    const key = element && Object.keys(element).find((name) => name.startsWith("__reactFiber$"));
    /** @type {Fiber | null} */
    let fiber = key ? /** @type {any} */ (element)[key] : null;
    for (let far = 0; fiber && far < FAR; far++, fiber = fiber.return) {
      const found = look(fiber);
      if (found !== undefined) return found;
    }
  } catch {
    // Another React.
  }
  return undefined;
}
