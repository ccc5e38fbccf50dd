/** One head at a time, large: tokens at the sides, the weight under the pointer or the cursor in words. */

import { drawWeights, fit } from "./canvas.js";
import { by, onceAFrame } from "./dom.js";
import { percent, say } from "./language.js";
import { colour } from "./theme.js";
import { shown } from "./tokens.js";

const FONT = "12px system-ui, sans-serif";
const LABELLED = 13; // pixels a cell needs to have its token beside it
const LONGEST = 9; // letters of a token at a side
let state = null; // weights, tokens, and where the cursor is
let size = { cell: 0, left: 0, top: 0 };
const small = document.createElement("canvas"); // one pixel a weight
const draw = onceAFrame(paint);

/** Set up pointer, keys and resizing. */
export function startMatrix() {
  const canvas = by("inside-matrix");
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    point(Math.floor((event.clientY - box.top - size.top) / size.cell), Math.floor((event.clientX - box.left - size.left) / size.cell));
  });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step || !state) return;
    event.preventDefault();
    point(clamp(state.row + step[0], state.weights.rows), clamp(state.column + step[1], state.weights.columns));
  });
  canvas.addEventListener("focus", draw);
  new ResizeObserver(draw).observe(canvas.closest(".large"));
}

/**
 * Show one map.
 * @param {import("./packed.js").Weights} weights
 * @param {Array<{text: string}>} queries @param {Array<{text: string}>} keys
 */
export function showMatrix(weights, queries, keys) {
  const row = Math.min(state?.row ?? weights.rows - 1, weights.rows - 1);
  const column = Math.min(state?.column ?? 0, weights.columns - 1);
  state = { weights, queries, keys, row, column };
  drawWeights(small, weights);
  point(row, column);
}

function clamp(at, count) {
  return Math.max(0, Math.min(count - 1, at));
}

function point(row, column) {
  if (!state || row < 0 || column < 0 || row >= state.weights.rows || column >= state.weights.columns) return;
  state = { ...state, row, column };
  const { weights, queries, keys } = state;
  const values = { query: shown(queries[row]), key: shown(keys[column]), row, column, share: percent(weights.at(row, column)) };
  by("inside-readout").textContent = say("cellIs", values);
  draw();
}

/** Cells as large as there is room for, and room for the tokens where they can be read. */
function measure(context) {
  const { weights, queries, keys } = state;
  const room = by("inside-matrix").closest(".scroll").clientWidth || 320;
  context.font = FONT;
  const widest = (tokens) => Math.max(...tokens.map((each) => context.measureText(cut(each)).width)) + 10;
  const [left, top] = [widest(queries), widest(keys)];
  const cell = Math.min(40, Math.floor((room - left) / weights.columns), Math.max(LABELLED, Math.floor(640 / weights.rows)));
  size = cell >= LABELLED ? { cell, left, top } : { cell: Math.max(2, Math.min(LABELLED - 1, room / weights.columns)), left: 0, top: 0 };
}

function paint() {
  if (!state) return;
  const canvas = by("inside-matrix");
  const context = canvas.getContext("2d");
  const { weights, queries, keys, row, column } = state;
  measure(context);
  const { cell, left, top } = size;
  const [width, height] = [left + cell * weights.columns, top + cell * weights.rows];
  fit(canvas, context, width, height);
  context.imageSmoothingEnabled = false;
  context.drawImage(small, left, top, cell * weights.columns, cell * weights.rows);
  context.strokeStyle = colour("--edge");
  context.strokeRect(left + 0.5, top + 0.5, width - left - 1, height - top - 1);
  context.strokeStyle = colour("--ink");
  context.lineWidth = 1.5;
  context.strokeRect(left + cell * column, top + cell * row, cell, cell);
  if (top) label(context, queries, keys);
}

function label(context, queries, keys) {
  const { cell, left, top } = size;
  context.font = FONT;
  context.textBaseline = "middle";
  context.textAlign = "right";
  queries.forEach((each, at) => {
    context.fillStyle = colour(at === state.row ? "--ink" : "--soft");
    context.fillText(cut(each), left - 5, top + cell * (at + 0.5));
  });
  context.textAlign = "left";
  keys.forEach((each, at) => {
    context.fillStyle = colour(at === state.column ? "--ink" : "--soft");
    context.save();
    context.translate(left + cell * (at + 0.5), top - 5);
    context.rotate(-Math.PI / 2);
    context.fillText(cut(each), 0, 0);
    context.restore();
  });
}

function cut(token) {
  const letters = [...shown(token)];
  return letters.length > LONGEST ? `${letters.slice(0, LONGEST - 1).join("")}…` : letters.join("");
}
