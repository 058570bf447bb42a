// @ts-check
/** Makes elements. What comes from outside is only ever set as text. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Make an element.
 *
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, unknown>} [properties] `on…`: listeners; `class`, `role`, `aria-…`,
 *   `data-…` and what has a dash: attributes; the others: properties.
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) {
      element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    } else if (name.includes("-") || ["class", "role", "for", "list"].includes(name)) {
      element.setAttribute(name, String(value));
    } else {
      Object.assign(element, { [name]: value });
    }
  }
  element.append(...children);
  return element;
}

/**
 * Make an icon of lines in a 24 x 24 box.
 *
 * @param {string} path
 */
export function icon(path) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [name, value] of Object.entries({
    // Its size does not wait for the stylesheet.
    width: "16", height: "16", viewBox: "0 0 24 24",
    fill: "none", stroke: "currentColor", "stroke-width": "2",
    "stroke-linecap": "round", "stroke-linejoin": "round", "aria-hidden": "true",
    class: "gptme-voice-icon",
  })) {
    svg.setAttribute(name, value);
  }
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

/** Set `element`'s text if it is another: a screen reader speaks every change. */
export function setText(/** @type {Element} */ element, /** @type {string} */ text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Set an attribute if it is another. */
export function setAttribute(
  /** @type {Element} */ element, /** @type {string} */ name, /** @type {string} */ value,
) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

export const ICONS = Object.freeze({
  waveform: "M3 10v4M7.5 6v12M12 3v18M16.5 7v10M21 10v4",
  microphone: "M12 3a3 3 0 0 0-3 3v5a3 3 0 0 0 6 0V6a3 3 0 0 0-3-3zM5 11a7 7 0 0 0 14 0M12 18v3",
  muted: "M9 9v2a3 3 0 0 0 5 2.2M15 10V6a3 3 0 0 0-5.7-1.3M5 11a7 7 0 0 0 11 5.7" +
    "M19 11a7 7 0 0 1-.6 2.8M12 18v3M3 3l18 18",
  stop: "M7 7h10v10H7z",
  end: "M18 6 6 18M6 6l12 12",
  devices: "M4 6h9M17 6h3M4 12h3M11 12h9M4 18h9M17 18h3M15 4v4M9 10v4M15 16v4",
});
