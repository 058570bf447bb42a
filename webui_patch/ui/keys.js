// @ts-check
/** Alt+Shift+V starts and ends voice; Space is push-to-talk where it would do nothing else. */

const USES_SPACE = "input, textarea, select, button, a, summary, audio, video, " +
  "[contenteditable], " +
  '[role="button"], [role="menuitem"], [role="option"], [role="tab"], [role="switch"], ' +
  '[role="checkbox"], [role="textbox"], [role="radio"], [role="slider"], [role="combobox"], ' +
  '[role="menuitemcheckbox"], [role="treeitem"], label';
const TALK = ".gptme-voice-talk";
/** Who has pressed one of these with a pointer, and then holds Space, wants to talk. */
const OURS = ".gptme-voice-button, .gptme-voice-control";

/**
 * Listen for the page's life.
 *
 * @param {{toggle: () => void, pushToTalk: () => boolean, talk: (on: boolean) => void}} actions
 *   `pushToTalk`: whether Space is wanted now.
 */
export function listenToKeys({ toggle, pushToTalk, talk }) {
  let talking = false;
  /** What of ours was pressed last, until the focus is moved by keyboard. @type {Element | null} */
  let pressed = null;
  addEventListener("pointerdown", ({ target }) => {
    pressed = target instanceof Element ? target.closest(OURS) : null;
  }, { capture: true });
  // Also of the button, which may be held when the window loses the pointer.
  const letGo = () => {
    talking = false;
    talk(false);
  };
  addEventListener("keydown", (event) => {
    if (isShortcut(event)) {
      event.preventDefault();
      if (!event.repeat) toggle();
      return;
    }
    // Where the meta key is held, the end of Space is not told.
    if (talking && event.metaKey) letGo();
    if (event.code === "Tab") pressed = null;
    if (!isSpace(event) || !pushToTalk() || usedElsewhere(event.target, pressed)) return;
    event.preventDefault();
    event.stopPropagation();
    if (!talking) talk(true);
    talking = true;
  }, { capture: true });
  addEventListener("keyup", (event) => {
    if (event.code !== "Space" || !talking) return;
    // A button would be pressed by it.
    event.preventDefault();
    letGo();
  }, { capture: true });
  addEventListener("blur", letGo);
  document.addEventListener("visibilitychange", letGo);
}

/** @param {KeyboardEvent} event */
function isShortcut({ code, altKey, shiftKey, ctrlKey, metaKey }) {
  return code === "KeyV" && altKey && shiftKey && !ctrlKey && !metaKey;
}

/** @param {KeyboardEvent} event */
function isSpace(event) {
  return event.code === "Space" &&
    !(event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || event.isComposing);
}

/** @param {EventTarget | null} target @param {Element | null} pressed */
function usedElsewhere(target, pressed) {
  if (!(target instanceof Element) || target.matches(TALK) || target === pressed) return false;
  return target.closest(USES_SPACE) !== null || target.closest('[role="dialog"]') !== null;
}
