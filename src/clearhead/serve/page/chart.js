/** Line charts on a canvas: axes with round numbers, the values under the pointer or the cursor in words. */

import { fit } from "./canvas.js";
import { onceAFrame } from "./dom.js";
import { number, onLanguage } from "./language.js";
import { colour, onTheme } from "./theme.js";

/** @typedef {{name: string, points: number[][], colour: string, dashes?: number[], dots?: boolean}} Line */

const FONT = "12px system-ui, sans-serif";
const MARGIN = { top: 10, right: 22, bottom: 36 };

/** A chart; it draws itself anew when its size, the colours or the language change. */
export class Chart {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {{format?: (value: number) => string, readout?: (at: number|null, lines: Line[]) => void}} settings
   */
  constructor(canvas, { format = (value) => number(value, 4), readout = () => {} } = {}) {
    this.canvas = canvas;
    this.format = format;
    this.readout = readout;
    this.lines = [];
    this.axes = { x: "", zero: false };
    this.at = null; // an x that is pointed at
    this.draw = onceAFrame(() => this.paint());
    new ResizeObserver(this.draw).observe(canvas.parentElement);
    onTheme(this.draw);
    onLanguage(this.draw);
    canvas.addEventListener("pointermove", (event) => this.point(event.offsetX));
    canvas.addEventListener("pointerleave", () => this.leave());
    canvas.addEventListener("keydown", (event) => this.step(event));
    canvas.addEventListener("blur", () => this.leave());
  }

  /** Show some lines. @param {Line[]} lines @param {{x: string, zero?: boolean}} axes */
  show(lines, axes) {
    this.lines = lines.filter((each) => each.points.length);
    this.axes = axes;
    this.readout(this.at, this.lines);
    this.draw();
  }

  paint() {
    const width = this.canvas.parentElement.clientWidth - padding(this.canvas.parentElement);
    if (width <= 0 || !this.lines.length) return;
    const height = this.canvas.clientHeight || 240;
    const context = this.canvas.getContext("2d");
    fit(this.canvas, context, width, height);
    this.canvas.style.width = "100%";
    context.font = FONT;
    this.measure(context, width, height);
    this.grid(context);
    for (const line of this.lines) this.line(context, line);
    if (this.at !== null) this.cursor(context);
  }

  /** Ranges of the axes, and how numbers become pixels. */
  measure(context, width, height) {
    const xs = extent(this.lines, 0);
    const [low, high] = extent(this.lines, 1);
    const room = (high - low || Math.abs(high) || 1) * 0.05;
    const ys = [this.axes.zero ? Math.min(0, low) : low - room, high + room];
    this.ticks = { x: ticks(xs[0], xs[1], Math.max(2, Math.floor(width / 110)), true), y: ticks(ys[0], ys[1], 6) };
    const left = Math.max(...this.ticks.y.map((each) => context.measureText(this.format(each)).width)) + 12;
    this.box = { left, top: MARGIN.top, right: width - MARGIN.right, bottom: height - MARGIN.bottom };
    const scale = (value, [from, to], start, end) => start + ((value - from) / (to - from || 1)) * (end - start);
    this.x = (value) => scale(value, xs, left, this.box.right);
    this.y = (value) => scale(value, ys, this.box.bottom, this.box.top);
    this.back = (pixel) => xs[0] + ((pixel - left) / (this.box.right - left)) * (xs[1] - xs[0]);
  }

  grid(context) {
    const { left, top, right, bottom } = this.box;
    context.lineWidth = 1;
    context.strokeStyle = colour("--edge");
    context.fillStyle = colour("--soft");
    context.textBaseline = "middle";
    context.textAlign = "right";
    for (const each of this.ticks.y) {
      const at = Math.round(this.y(each)) + 0.5;
      stroke(context, [[left, at], [right, at]]);
      context.fillText(this.format(each), left - 7, at);
    }
    context.textAlign = "center";
    context.textBaseline = "top";
    for (const each of this.ticks.x) context.fillText(number(each, 2), this.x(each), bottom + 5);
    context.textAlign = "right";
    context.fillText(this.axes.x, right, bottom + 20);
    context.strokeStyle = colour("--strong-edge");
    stroke(context, [[left, top], [left, bottom], [right, bottom]]);
  }

  line(context, { points, colour: name, dashes = [], dots = false }) {
    context.strokeStyle = context.fillStyle = colour(name);
    context.lineWidth = 2;
    context.lineJoin = "round";
    context.setLineDash(dashes);
    const drawn = thinned(points, this.box.right - this.box.left).map(([x, y]) => [this.x(x), this.y(y)]);
    stroke(context, drawn);
    context.setLineDash([]);
    if (dots || points.length === 1) drawn.forEach(([x, y]) => dot(context, x, y, 3));
  }

  cursor(context) {
    const at = Math.round(this.x(this.at)) + 0.5;
    context.strokeStyle = colour("--strong-edge");
    context.lineWidth = 1;
    stroke(context, [[at, this.box.top], [at, this.box.bottom]]);
    for (const line of this.lines) {
      const [x, y] = nearest(line.points, this.at);
      context.fillStyle = colour(line.colour);
      dot(context, this.x(x), this.y(y), 4);
    }
  }

  point(pixel) {
    if (this.box) this.move(this.back(pixel));
  }

  step(event) {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by || !this.lines.length) return;
    event.preventDefault();
    const points = this.lines[0].points;
    const now = this.at === null ? points.length - 1 - by : points.indexOf(nearest(points, this.at));
    this.move(points[Math.max(0, Math.min(points.length - 1, now + by))][0]);
  }

  move(x) {
    if (!this.lines.length) return;
    this.at = nearest(this.lines[0].points, x)[0];
    this.readout(this.at, this.lines);
    this.draw();
  }

  leave() {
    this.at = null;
    this.readout(null, this.lines);
    this.draw();
  }
}

/** The point of a line that stands nearest to x; points are sorted. @param {number[][]} points @param {number} x */
export function nearest(points, x) {
  let [low, high] = [0, points.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points[middle][0] <= x) low = middle;
    else high = middle;
  }
  return Math.abs(points[low][0] - x) <= Math.abs(points[high][0] - x) ? points[low] : points[high];
}

/** Of many points the first, lowest, highest and last of each pixel: a curve that looks the same. */
function thinned(points, pixels) {
  const size = Math.ceil(points.length / Math.max(1, pixels));
  if (size <= 2) return points;
  const kept = [];
  for (let start = 0; start < points.length; start += size) {
    const part = points.slice(start, start + size);
    const sorted = [...part].sort((left, right) => left[1] - right[1]);
    kept.push(...new Set([part[0], sorted[0], sorted.at(-1), part.at(-1)]));
  }
  return kept.sort((left, right) => left[0] - right[0]);
}

function extent(lines, axis) {
  let [low, high] = [Infinity, -Infinity];
  for (const { points } of lines) {
    for (const point of points) {
      low = Math.min(low, point[axis]);
      high = Math.max(high, point[axis]);
    }
  }
  return [low, high];
}

/** Round numbers between two ends: steps of 1, 2 or 5 times a power of ten. */
function ticks(low, high, count, whole = false) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough && (!whole || each >= 1)) ?? 10 * power;
  const found = [];
  for (let at = Math.ceil(low / step); at * step <= high + step * 1e-9; at += 1) found.push(Number((at * step).toPrecision(12)));
  return found.length ? found : [low];
}

function stroke(context, points) {
  context.beginPath();
  points.forEach(([x, y], index) => (index ? context.lineTo(x, y) : context.moveTo(x, y)));
  context.stroke();
}

function dot(context, x, y, radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
}

function padding(element) {
  const style = getComputedStyle(element);
  return parseFloat(style.paddingLeft) + parseFloat(style.paddingRight);
}
