/** The logit lens: which token each layer would choose at one place, with its probability. */

import { by, fill, make } from "./dom.js";
import { percent, say } from "./language.js";
import { shown } from "./tokens.js";

let found = null;
let tokens = [];
let place = 0;

/** Set up the two buttons that move the place. */
export function startLens() {
  by("lens-before").addEventListener("click", () => placeLens(place - 1));
  by("lens-after").addEventListener("click", () => placeLens(place + 1));
}

/** Show the lens of a look, at its last place or where it was. @param {any} seen */
export function showLens(seen) {
  const anew = found !== seen.lens;
  found = seen.lens;
  by("inside-lens-card").hidden = !found;
  if (!found) return;
  tokens = seen.decoder.length ? seen.decoder : seen.encoder;
  placeLens(anew ? tokens.length - 1 : place);
}

/** Look at another place. @param {number} at */
export function placeLens(at) {
  if (!found) return;
  place = Math.max(0, Math.min(tokens.length - 1, at));
  by("lens-before").disabled = place === 0;
  by("lens-after").disabled = place === tokens.length - 1;
  by("lens-place").textContent = say("lensAt", { token: shown(tokens[place]), place: place + 1, places: tokens.length });
  const last = found.ids.at(-1)[place][0];
  const rows = found.layers.map((layer, index) => row(layer, index, last)).reverse(); // the last layer on top
  const head = make("tr", {}, ...["layer", "lensBest", "lensFinal"].map((key) => make("th", { scope: "col" }, say(key))));
  head.children[1].colSpan = found.ids[0][0].length;
  fill(by("inside-lens"), make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)));
  document.dispatchEvent(new CustomEvent("lens-place", { detail: place }));
}

function row(layer, index, last) {
  const name = layer === 0 ? say("layerNone") : index === found.layers.length - 1 ? say("layerLast", { layer }) : String(layer);
  const guesses = found.ids[index][place].map((id, rank) => {
    const share = found.probabilities[index][place][rank];
    const guess = make("div", { class: `guess${id === last ? " final" : ""}` }, shown(found.words[id]));
    guess.append(make("span", { class: "share" }, percent(share)));
    guess.style.setProperty("--p", share.toFixed(4));
    return make("td", {}, guess);
  });
  const final = make("td", { class: "number" }, percent(found.final[index][place]));
  return make("tr", {}, make("th", { scope: "row" }, name), ...guesses, final);
}
