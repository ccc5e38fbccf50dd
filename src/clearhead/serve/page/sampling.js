/** The controls of sampling: each with its name, its number, and one sentence that says what it does. */

import { by, fill, make } from "./dom.js";
import { onLanguage, say } from "./language.js";

/** Name in the API, the range of its slider, what it begins with, and whether greedy search has no use of it. */
const CONTROLS = [
  { name: "temperature", least: 0, most: 2, step: 0.05, value: 0.8 },
  { name: "top_p", least: 0.05, most: 1, step: 0.05, value: 0.95, draws: true },
  { name: "top_k", least: 0, most: 200, step: 1, value: 0, draws: true },
  { name: "min_p", least: 0, most: 0.5, step: 0.01, value: 0, draws: true },
  { name: "repetition_penalty", least: 0.8, most: 2, step: 0.05, value: 1 },
  { name: "max_tokens", least: 1, most: 1024, step: 1, value: 200 },
];

/** Build the controls. */
export function startSampling() {
  const place = by("sampling");
  fill(place, ...CONTROLS.map(slider), plain("seed", "number"), plain("stop", "text"));
  onLanguage(name);
  name();
  greedy();
  if (matchMedia("(max-width: 60rem)").matches) by("sampling-card").open = false;
}

/** What the controls say, as the API takes it. */
export function sampling() {
  const values = {};
  for (const each of CONTROLS) {
    const value = Number(by(`sampling-${each.name}`).value);
    if (!(each.draws && Number(by("sampling-temperature").value) === 0)) values[each.name] = value;
  }
  const seed = by("sampling-seed").value.trim();
  if (seed !== "") values.seed = Number(seed);
  const stops = by("sampling-stop").value.split("|").map((each) => each.replaceAll("\\n", "\n")).filter(Boolean);
  if (stops.length) values.stop = stops;
  return values;
}

/** Set controls from a conversation that was read from a file; what does not fit is left alone. @param {any} values */
export function setSampling(values) {
  for (const { name: key, least, most } of CONTROLS) {
    const value = values?.[key];
    if (typeof value === "number" && value >= least && value <= most) show(key, value);
  }
  if (Number.isInteger(values?.seed)) by("sampling-seed").value = values.seed;
  if (Array.isArray(values?.stop)) by("sampling-stop").value = values.stop.join("|").replaceAll("\n", "\\n");
  greedy();
}

function slider({ name: key, least, most, step, value }) {
  const range = { id: `range-${key}`, type: "range", min: least, max: most, step, value };
  const exact = { id: `sampling-${key}`, type: "number", min: least, max: most, step, value, "aria-describedby": `about-${key}` };
  return make(
    "div",
    { class: "control" },
    make("label", { for: `sampling-${key}`, "data-control": key }),
    make("input", { ...exact, onchange: (event) => show(key, within(event.target)) }),
    make("input", { ...range, "aria-describedby": `about-${key}`, oninput: (event) => show(key, Number(event.target.value)) }),
    make("p", { id: `about-${key}`, "data-about": key }),
  );
}

function plain(key, type) {
  const settings = type === "number" ? { min: 0, step: 1 } : { autocomplete: "off" };
  return make(
    "div",
    { class: "control" },
    make("label", { for: `sampling-${key}`, "data-control": key }),
    make("input", { id: `sampling-${key}`, type, ...settings, "aria-describedby": `about-${key}` }),
    make("p", { id: `about-${key}`, "data-about": key }),
  );
}

function within(input) {
  const value = input.value === "" ? NaN : Number(input.value);
  return Number.isFinite(value) ? Math.min(Number(input.max), Math.max(Number(input.min), value)) : Number(input.defaultValue);
}

function show(key, value) {
  by(`sampling-${key}`).value = value;
  by(`range-${key}`).value = value;
  greedy();
}

/** With temperature 0 the most probable token is always taken: what shapes the draw does nothing. */
function greedy() {
  const off = Number(by("sampling-temperature").value) === 0;
  for (const { name: key, draws } of CONTROLS) {
    for (const prefix of ["sampling", "range"]) by(`${prefix}-${key}`).disabled = Boolean(draws && off);
  }
}

function name() {
  for (const each of document.querySelectorAll("[data-control]")) each.textContent = say(`control ${each.dataset.control}`);
  for (const each of document.querySelectorAll("[data-about]")) each.textContent = say(`about ${each.dataset.about}`);
  for (const { name: key } of CONTROLS) by(`range-${key}`).setAttribute("aria-label", say(`control ${key}`));
}
