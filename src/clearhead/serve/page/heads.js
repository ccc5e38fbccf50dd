/** Attention of every head: a small picture of each, one large one, and what each does in numbers. */

import { drawWeights } from "./canvas.js";
import { by, choices, describe, fill, make, oneStop, rove } from "./dom.js";
import { say } from "./language.js";
import { showMatrix, startMatrix } from "./matrix.js";
import { Weights } from "./packed.js";

const PART = 24; // small pictures of one frame
const NUMBERS = ["entropy", "among", "peak", "distance", "previous", "itself", "first", "last"];
let found = null;
let layers = []; // of the chosen site
let chosen = { site: "", layer: 0, head: 0 };

/** Set up the grid of small pictures. */
export function startHeads() {
  const grid = by("inside-heads");
  startMatrix();
  by("inside-site").addEventListener("change", () => showSite(by("inside-site").value));
  grid.addEventListener("click", (event) => {
    const head = event.target.closest(".head");
    if (head) choose(Number(head.dataset.layer), Number(head.dataset.head));
  });
  rove(grid, ".head", () => layers[0]?.maps.length ?? 1);
}

/** Show the attention of a look. @param {any} seen */
export function showHeads(seen) {
  found = seen;
  const sites = [...new Set(seen.attention.map((each) => each.site))];
  choices(by("inside-site"), sites.map((each) => [each, say(`site ${each}`)]));
  by("inside-site").closest("label").hidden = sites.length < 2;
  if (!sites.includes(chosen.site)) by("inside-site").value = sites[0] ?? "";
  showSite(by("inside-site").value);
}

function showSite(site) {
  layers = found.attention.filter((each) => each.site === site);
  document.querySelector(".attention").hidden = !layers.length;
  const layer = Math.min(chosen.layer, Math.max(0, layers.length - 1));
  chosen = { site, layer, head: Math.min(chosen.head, (layers[layer]?.maps.length ?? 1) - 1) };
  grid();
  table();
  if (layers.length) choose(chosen.layer, chosen.head);
}

function grid() {
  const place = by("inside-heads");
  const heads = Math.max(0, ...layers.map((each) => each.maps.length));
  place.style.setProperty("--cell", `${Math.min(5, Math.max(1.6, 27 / Math.max(1, heads) - 0.8)).toFixed(2)}rem`);
  place.style.gridTemplateColumns = `auto repeat(${heads}, max-content)`;
  const rows = layers.flatMap((each, layer) => [
    make("span", { class: "name", "aria-hidden": "true" }, `${each.layer}`),
    ...each.maps.map((_, head) => small(layer, head)),
  ]);
  const heading = Array.from({ length: heads }, (_, head) => make("span", { class: "name", "aria-hidden": "true" }, `${head + 1}`));
  fill(place, make("span", { class: "name", "aria-hidden": "true" }, say("layerHead")), ...heading, ...rows);
  const buttons = [...place.querySelectorAll(".head")];
  oneStop(buttons, Math.max(0, buttons.findIndex((each) => isChosen(each))));
  drawPart(buttons, 0, layers);
}

function small(layer, head) {
  const name = say("headName", { layer: layers[layer].layer, head: head + 1 });
  const settings = { type: "button", class: "head", "data-layer": layer, "data-head": head, "aria-label": name, title: name };
  return make("button", { ...settings, "aria-pressed": "false" }, make("canvas", { "aria-hidden": "true", width: 1, height: 1 }));
}

/** Draw some pictures, and the others in the next frames: a large model has hundreds. */
function drawPart(buttons, start, mine) {
  if (mine !== layers) return; // another look has come meanwhile
  for (const each of buttons.slice(start, start + PART)) {
    drawWeights(each.firstChild, weightsOf(layers[Number(each.dataset.layer)], Number(each.dataset.head)));
  }
  if (start + PART < buttons.length) requestAnimationFrame(() => drawPart(buttons, start + PART, mine));
}

function weightsOf(layer, head) {
  const [, rows, columns] = layer.shape;
  return new Weights(layer.maps[head], rows, columns);
}

function isChosen(button) {
  return Number(button.dataset.layer) === chosen.layer && Number(button.dataset.head) === chosen.head;
}

function choose(layer, head) {
  chosen = { ...chosen, layer, head };
  for (const each of by("inside-heads").querySelectorAll(".head")) each.setAttribute("aria-pressed", String(isChosen(each)));
  const { site, heads } = layers[layer];
  const name = say("headName", { layer: layers[layer].layer, head: head + 1 });
  by("inside-head-name").textContent = `${say(`site ${site}`)} · ${name}`;
  by("inside-matrix").setAttribute("aria-label", `${say("matrixOf", { name })}`);
  const queries = site === "encoder" ? found.encoder : found.decoder;
  const keys = site === "decoder" ? found.decoder : found.encoder;
  showMatrix(weightsOf(layers[layer], head), queries, keys);
  const numbers = withAmong(heads[head]);
  describe(by("inside-numbers"), present(heads).map((key) => [say(`number ${key}`), written(key, numbers[key])]));
}

/** All heads of a site, a row each. */
function table() {
  if (!layers.length) return fill(by("inside-table"));
  const keys = present(layers[0].heads);
  const header = ["layer", "head", ...keys.map((key) => `number ${key}`)].map((key) =>
    make("th", { scope: "col", class: "number" }, say(key)),
  );
  const rows = layers.flatMap((each) =>
    each.heads.map((head, at) => {
      const numbers = withAmong(head);
      const cells = [String(each.layer), String(at + 1), ...keys.map((key) => written(key, numbers[key]))];
      return make("tr", {}, ...cells.map((cell) => make("td", { class: "number" }, cell)));
    }),
  );
  return fill(by("inside-table"), make("table", {}, make("thead", {}, make("tr", {}, ...header)), make("tbody", {}, ...rows)));
}

function withAmong(head) {
  return { ...head, among: Math.exp(head.entropy) };
}

function present(heads) {
  return NUMBERS.filter((key) => key === "among" || heads.some((each) => each[key] !== null));
}

function written(key, value) {
  if (["entropy", "among", "distance"].includes(key)) return value.toFixed(2);
  return `${(100 * value).toFixed(1)} %`;
}
