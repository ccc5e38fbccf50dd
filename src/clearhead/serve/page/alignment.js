/** Cross-attention under a translation: which source tokens each output token looked at, and the other way round. */

import { ask, tell } from "./api.js";
import { by, choices, fill, make } from "./dom.js";
import { onLanguage, percent, say } from "./language.js";
import { largest, Weights } from "./packed.js";
import { markToken, shadeTokens, shown, showTokens, tokenRow } from "./tokens.js";

const NAMED = 4; // tokens that the readout names
let found = null; // what the server said
let layers = [];
let looked = { side: "output", at: 0 };
let asked = 0; // only the answer to the newest question is shown
let shownList = { model: "", results: [] };

/** Set up the card. */
export function startAlignment() {
  tokenRow(by("alignment-source"), (at) => look("source", at));
  tokenRow(by("alignment-output"), (at) => look("output", at));
  by("alignment-layer").addEventListener("change", () => look(looked.side, looked.at));
  by("alignment-sentence").addEventListener("change", showCandidates);
  by("n-best-list").addEventListener("change", (event) => align(Number(event.target.value)));
  onLanguage(() => {
    if (!found) return;
    nameLayers();
    look(looked.side, looked.at);
  });
}

/**
 * Show the candidates of each sentence.
 * @param {string} model
 * @param {Array<{source: string, candidates: string[]}>} results
 */
export function showAlignment(model, results) {
  shownList = { model, results };
  by("alignment").hidden = !results.length;
  if (!results.length) return;
  by("alignment-which").hidden = results.length < 2;
  choices(by("alignment-sentence"), results.map(({ source }, at) => [String(at), `${at + 1}. ${cut(source)}`]));
  by("alignment-sentence").value = "0";
  showCandidates();
}

function cut(text) {
  const letters = [...text];
  return letters.length > 40 ? `${letters.slice(0, 40).join("")}…` : text;
}

function showCandidates() {
  const { candidates } = shownList.results[Number(by("alignment-sentence").value)];
  by("n-best").hidden = candidates.length < 2;
  const radio = (text, at) =>
    make("label", {}, make("input", { type: "radio", name: "candidate", value: at, checked: at === 0 }), make("span", {}, text));
  fill(by("n-best-list"), ...candidates.map(radio));
  align(0);
}

async function align(candidate) {
  const { source, candidates } = shownList.results[Number(by("alignment-sentence").value)];
  const mine = ++asked;
  try {
    const body = { model: shownList.model, source, output: candidates[candidate] };
    const answer = await ask("/api/inside/alignment", body);
    if (mine === asked) show(answer);
  } catch (error) {
    if (mine !== asked) return;
    found = null;
    for (const id of ["alignment-source", "alignment-output", "alignment-readout"]) fill(by(id));
    if (candidates[candidate].trim()) by("alignment-readout").textContent = error.message;
    else tell(null);
  }
}

function show(answer) {
  found = answer;
  const [rows, columns] = answer.shape;
  layers = answer.layers.map((each) => new Weights(each, rows, columns));
  nameLayers();
  by("alignment-layer").value = String(answer.best);
  showTokens(by("alignment-source"), answer.source);
  showTokens(by("alignment-output"), answer.output);
  look("output", 0);
}

function nameLayers() {
  const name = (at) => say(at === found.best ? "layerBest" : "layerOf", { layer: at + 1, layers: layers.length });
  choices(by("alignment-layer"), layers.map((_, at) => [String(at), name(at)]));
  by("alignment-note").textContent = say("alignmentNote");
}

/** Show what one token looked at, or was looked at by. @param {"source"|"output"} side @param {number} at */
function look(side, at) {
  if (!found) return;
  looked = { side, at };
  const weights = layers[Number(by("alignment-layer").value)];
  const other = side === "output" ? "source" : "output";
  const numbers = side === "output" ? weights.row(at) : weights.column(at);
  markToken(by(`alignment-${side}`), at);
  markToken(by(`alignment-${other}`), -1);
  shadeTokens(by(`alignment-${side}`), null);
  shadeTokens(by(`alignment-${other}`), numbers);
  const named = largest(numbers, NAMED).map(({ value, at: place }) => `${shown(found[other][place])} ${percent(value)}`);
  by("alignment-readout").textContent = say(side === "output" ? "looksAt" : "lookedAtBy", {
    token: shown(found[side][at]),
    tokens: named.join(say("comma")),
  });
}
