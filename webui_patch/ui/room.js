// @ts-check
/**
 * Makes room for the strip below the messages: it lies over them, as gptme's own chat input does,
 * and what is asked there (whether a tool may be run) must not lie behind it.
 */

/** How near to its end a list counts as being at its end, in pixels. */
const NEAR = 48;

export class Room {
  #element;
  /** @type {HTMLElement | null} */
  #pane = null;
  /** Whether its user reads the newest message. */
  #atEnd = true;
  #follow = () => {
    this.#atEnd = this.#left() < NEAR;
  };

  /** @param {HTMLElement} element What lies over the messages. */
  constructor(element) {
    this.#element = element;
    new ResizeObserver(() => this.#fit()).observe(element);
  }

  /**
   * To be called after every change of the page.
   *
   * @param {HTMLElement | null} pane What scrolls the messages; null where there are none.
   */
  below(pane) {
    if (pane !== this.#pane) {
      this.#pane?.removeEventListener("scroll", this.#follow);
      if (this.#pane) this.#pane.style.paddingBottom = "";
      this.#pane = pane;
      this.#atEnd = true;
      pane?.addEventListener("scroll", this.#follow, { passive: true });
    }
    this.#fit();
  }

  #left() {
    const pane = this.#pane;
    return pane ? pane.scrollHeight - pane.scrollTop - pane.clientHeight : 0;
  }

  #fit() {
    const pane = this.#pane;
    if (!pane) return;
    const height = this.#element.isConnected ? this.#element.offsetHeight : 0;
    const padding = height ? `${height}px` : "";
    if (pane.style.paddingBottom !== padding) pane.style.paddingBottom = padding;
    // Whoever reads the newest message goes on reading it, also when something comes below it.
    if (height && this.#atEnd && this.#left() > 1) pane.scrollTop = pane.scrollHeight;
  }
}
