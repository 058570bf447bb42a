// @ts-check
/**
 * Dims what was not heard of an interrupted reply. The server writes it into the message as a
 * quotation, which gptme's page does not set apart from the rest.
 */

/** How such a quotation begins; as in server/spoken.py. */
const BEGINS = "Not heard: ";
const MARK = "data-gptme-voice-unheard";

/** Mark the quotations in the page that are such. */
export function markUnheard() {
  for (const quotation of document.querySelectorAll(`blockquote:not([${MARK}])`)) {
    if (quotation.textContent?.trimStart().startsWith(BEGINS)) quotation.setAttribute(MARK, "");
  }
}
