/** The tokens of a look, one row for each side of the model. The one that is chosen is the place of the lens. */

import { by, fill, make } from "./dom.js";
import { say } from "./language.js";
import { placeLens } from "./lens.js";
import { markToken, showTokens, tokenRow } from "./tokens.js";

let sides = [];

/** Listen to the lens: it can move by itself. */
export function startTokenSides() {
  document.addEventListener("lens-place", (event) => {
    const read = sides.at(-1);
    if (read) markToken(read.row, event.detail, "aria-pressed");
  });
}

/** Show the tokens. @param {any} found */
export function showTokenSides(found) {
  const names = ["encoder", "decoder"].filter((side) => found[side].length);
  sides = names.map((side) => {
    const title = make("h3", { class: "small", id: `tokens-${side}` }, say(`side ${side}`, { count: found[side].length }));
    const row = make("div", { class: "tokens", role: "group", "aria-labelledby": `tokens-${side}` });
    const about = make("p", { class: "soft", role: "status" });
    const reads = side === names.at(-1) && found.lens;
    showTokens(row, found[side], Boolean(reads));
    tokenRow(row, (at) => (about.textContent = described(found[side][at], at)), reads ? placeLens : undefined);
    return { row, parts: [title, row, about] };
  });
  fill(by("inside-tokens"), ...sides.flatMap((each) => each.parts));
}

function described(token, at) {
  return say("tokenIs", { place: at, id: token.id, text: token.text, kind: say(`token ${token.kind}`) });
}
