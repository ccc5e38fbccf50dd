/** What is shown of a training run: its state, its curves, what the model writes, its recipe. */

import { Chart, nearest } from "./chart.js";
import { by, choices, describe, fill, make } from "./dom.js";
import { number, say, short } from "./language.js";

const LIVE = 600; // seconds after its last line a run still counts as going on
const SAMPLES = 30; // validations that can be chosen
const CHARTS = [
  {
    key: "loss",
    lines: [
      { key: "training", kind: "train", names: ["nll", "loss"], colour: "--line-1" },
      { key: "validation", kind: "valid", names: ["loss"], colour: "--line-2", dashes: [6, 4], dots: true },
    ],
  },
  { key: "bleu", lines: [{ key: "validation", kind: "valid", names: ["bleu"], colour: "--line-2", dots: true }] },
  { key: "accuracy", lines: [{ key: "validation", kind: "valid", names: ["accuracy"], colour: "--line-2", dots: true }] },
  { key: "rate", lines: [{ key: "rate", kind: "train", names: ["learning_rate"], colour: "--line-1" }] },
  { key: "norm", lines: [{ key: "norm", kind: "train", names: ["gradient_norm"], colour: "--line-1" }] },
  { key: "speed", lines: [{ key: "speed", kind: "train", names: ["tokens_per_second"], colour: "--line-3" }] },
];
const charts = new Map();
let validations = []; // those with samples

/** Set up the choice among the samples. */
export function startRunView() {
  by("runs-update").addEventListener("change", showSamples);
}

/** Forget what is shown. */
export function clearRun() {
  charts.forEach(({ figure }) => (figure.hidden = true));
  validations = [];
  by("runs-samples-card").hidden = true;
  by("runs-recipe").textContent = "";
  by("runs-state").textContent = "";
  fill(by("runs-numbers"));
}

/** Show a run. @param {any} run */
export function showRun(run) {
  status(run);
  numbers(run);
  for (const each of CHARTS) draw(each, run.lines);
  samples(run.lines);
  if (by("runs-recipe").textContent !== run.recipe) by("runs-recipe").textContent = run.recipe;
}

function status(run) {
  const seconds = Math.max(0, Date.now() / 1000 - run.changed);
  const live = !run.finished && seconds < LIVE;
  const place = by("runs-state");
  const key = live ? "runLive" : run.finished ? "runFinished" : "runStill";
  const text = say(key, { ago: ago(seconds) });
  if (place.textContent !== text) place.textContent = text;
  place.classList.toggle("live", live);
}

function ago(seconds) {
  const units = [["days", 86400], ["hours", 3600], ["minutes", 60], ["seconds", 1]];
  const [unit, size] = units.find(([, each]) => seconds >= each) ?? units.at(-1);
  return say(unit, { count: Math.floor(seconds / size) });
}

function numbers(run) {
  const last = (kind, name) => run.lines.findLast((each) => each.kind === kind && typeof each[name] === "number")?.[name];
  const update = run.lines.at(-1)?.update ?? 0;
  const planned = run.updates ? ` / ${number(run.updates)}` : "";
  const pairs = [
    [say("update"), `${number(update)}${planned}`],
    [say("epoch"), last("train", "epoch")],
    [say("trainingLoss"), last("train", "nll") ?? last("train", "loss")],
    [say("validationLoss"), last("valid", "loss")],
    ["BLEU", last("valid", "bleu")],
    [say("tokensPerSecond"), last("train", "tokens_per_second")],
  ];
  const written = (value) => (typeof value === "number" ? (value >= 1000 ? number(value) : short(value)) : value);
  describe(by("runs-numbers"), pairs.filter(([, value]) => value !== undefined).map(([name, value]) => [name, written(value)]));
}

function draw({ key, lines }, all) {
  const drawn = lines.map((line) => ({ ...line, name: say(`curve ${line.key}`), points: curve(all, line) })).filter((each) => each.points.length);
  if (!drawn.length) {
    if (charts.has(key)) charts.get(key).figure.hidden = true;
    return;
  }
  if (!charts.has(key)) charts.set(key, framed(key));
  const { figure, chart, title, legend, canvas } = charts.get(key);
  figure.hidden = false;
  title.textContent = say(`chart ${key}`);
  fill(legend, ...(drawn.length > 1 ? drawn.map(mark) : []));
  canvas.setAttribute("aria-label", say("chartLabel", { title: title.textContent, ends: ends(drawn) }));
  chart.show(drawn, { x: say("updates") });
}

function curve(all, { kind, names }) {
  const name = names.find((each) => all.some((line) => line.kind === kind && typeof line[each] === "number"));
  return name ? all.filter((line) => line.kind === kind && typeof line[name] === "number").map((line) => [line.update, line[name]]) : [];
}

function framed(key) {
  const title = make("span", {});
  const legend = make("ul", { class: "legend" });
  const canvas = make("canvas", { class: "chart", role: "img", tabindex: "0" });
  const readout = make("p", { class: "readout" });
  const figure = make("figure", {}, make("figcaption", {}, title, legend), canvas, readout);
  by("runs-charts").append(figure);
  const tell = (at, lines) => (readout.textContent = at === null ? ends(lines) : described(at, lines));
  const format = key === "rate" ? (value) => (value === 0 ? "0" : value.toExponential(1)) : undefined;
  return { figure, title, legend, canvas, chart: new Chart(canvas, { format, readout: tell }) };
}

function ends(lines) {
  return say("lastValues", { values: lines.map((each) => `${each.name} ${short(each.points.at(-1)[1])}`).join(say("comma")) });
}

function described(at, lines) {
  const values = lines.map((each) => `${each.name} ${short(nearest(each.points, at)[1])}`);
  return `${say("update")} ${number(at)}: ${values.join(say("comma"))}`;
}

/** A line as the chart draws it, and its name. */
function mark({ name, colour, dashes }) {
  const space = "http://www.w3.org/2000/svg";
  const picture = document.createElementNS(space, "svg");
  const line = document.createElementNS(space, "line");
  for (const [key, value] of Object.entries({ width: 22, height: 8, "aria-hidden": "true" })) picture.setAttribute(key, value);
  for (const [key, value] of Object.entries({ x1: 0, x2: 22, y1: 4, y2: 4, "stroke-width": 2 })) line.setAttribute(key, value);
  line.style.stroke = `var(${colour})`;
  if (dashes) line.setAttribute("stroke-dasharray", dashes.join(" "));
  picture.append(line);
  return make("li", {}, picture, name);
}

function samples(all) {
  const found = all.filter((each) => each.kind === "valid" && (each.sample || each.samples?.length)).slice(-SAMPLES);
  by("runs-samples-card").hidden = !found.length;
  const follows = by("runs-update").value === String(validations.at(-1)?.update ?? ""); // the newest is looked at
  if (found.length !== validations.length || found.at(-1) !== validations.at(-1)) {
    validations = found;
    choices(by("runs-update"), found.map(({ update }) => [String(update), number(update)]).reverse());
    if (follows && found.length) by("runs-update").value = String(found.at(-1).update);
  }
  showSamples();
}

function showSamples() {
  const chosen = validations.find((each) => String(each.update) === by("runs-update").value);
  if (!chosen) return;
  if (!chosen.samples) {
    fill(by("runs-samples"), make("p", {}, chosen.sample));
    return;
  }
  const head = ["source", "output", "reference"].map((key) => make("th", { scope: "col" }, say(`sample ${key}`)));
  const rows = chosen.samples.map(({ source, output, reference }) =>
    make("tr", {}, ...[source, output, reference].map((each) => make("td", {}, each ?? ""))),
  );
  fill(by("runs-samples"), make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows)));
}
