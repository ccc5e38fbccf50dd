/** Tokens as small buttons in a row: one tab stop, arrow keys between them, the pointer and the focus both tell which. */

import { fill, make, oneStop, rove } from "./dom.js";

/**
 * A row of tokens.
 * @param {HTMLElement} place
 * @param {(index: number) => void} looked is told which token is pointed at or has the focus
 * @param {(index: number) => void} [chosen] is told which one is clicked
 */
export function tokenRow(place, looked, chosen = () => {}) {
  const at = (event) => {
    const token = event.target.closest(".token");
    return token ? Number(token.dataset.at) : -1;
  };
  const tell = (event) => at(event) >= 0 && looked(at(event));
  place.addEventListener("pointerover", tell);
  place.addEventListener("focusin", tell);
  place.addEventListener("click", (event) => at(event) >= 0 && chosen(at(event)));
  rove(place, ".token");
}

/** Fill a row. @param {HTMLElement} place @param {Array<{text: string, kind: string}>} tokens @param {boolean} [toggles] */
export function showTokens(place, tokens, toggles = false) {
  const made = tokens.map((token, at) =>
    make("button", { type: "button", class: `token ${token.kind}`, "data-at": at, "aria-pressed": toggles ? "false" : null }, shown(token)),
  );
  oneStop(made);
  fill(place, ...made);
}

/** How a token is written; an empty one can still be seen. @param {{text: string}} token */
export function shown(token) {
  return token.text === "" ? "∅" : token.text;
}

/** Shade tokens by weights, the darkest for the largest. @param {HTMLElement} place @param {ArrayLike<number>|null} weights */
export function shadeTokens(place, weights) {
  const largest = weights ? Math.max(1e-6, ...weights) : 1;
  [...place.children].forEach((each, index) => {
    const share = weights ? weights[index] / largest : 0;
    each.style.setProperty("--w", share.toFixed(3));
    each.classList.toggle("strong", share > 0.5);
  });
}

/** Mark one token as the one that is looked at. @param {HTMLElement} place @param {number} at @param {string} [state] */
export function markToken(place, at, state = "aria-current") {
  [...place.children].forEach((each, index) => {
    if (index === at) each.setAttribute(state, "true");
    else if (state === "aria-pressed") each.setAttribute(state, "false");
    else each.removeAttribute(state);
  });
}
