/** Canvases: their size on the screen, and maps of numbers of one pixel each, made larger without smoothing. */

import { shade } from "./theme.js";

/**
 * Give a canvas its size, in as many pixels as the screen has.
 * @param {HTMLCanvasElement} canvas @param {CanvasRenderingContext2D} context @param {number} width @param {number} height
 */
export function fit(canvas, context, width, height) {
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  context.setTransform(scale, 0, 0, scale, 0, 0);
}

/**
 * One pixel a weight; its shade is the root of the weight, the darkest for the largest of the map. Without the root
 * the first query of a decoder, which sees nothing but itself, would leave all others pale.
 * @param {HTMLCanvasElement} canvas
 * @param {import("./packed.js").Weights} weights
 */
export function drawWeights(canvas, weights) {
  const colour = shade("--heat");
  const shades = Array.from({ length: 256 }, (_, byte) => 255 * Math.sqrt(byte / 255 / weights.largest));
  paint(canvas, weights.rows, weights.columns, (at) => [colour, shades[weights.bytes[at]]]);
}

/**
 * One pixel a signed number: one colour below zero, the other above.
 * @param {HTMLCanvasElement} canvas
 * @param {Uint8Array} bytes 128 is zero
 * @param {number} rows @param {number} columns
 */
export function drawSigned(canvas, bytes, rows, columns) {
  const below = shade("--heat");
  const above = shade("--warm");
  paint(canvas, rows, columns, (at) => [bytes[at] < 128 ? below : above, 2 * Math.abs(bytes[at] - 128)]);
}

/** @param {HTMLCanvasElement} canvas @param {(at: number) => [number[], number]} pixel colour and opacity, 0 to 255 */
function paint(canvas, rows, columns, pixel) {
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  for (let at = 0; at < rows * columns; at += 1) {
    const [colour, opacity] = pixel(at);
    image.data.set(colour, 4 * at);
    image.data[4 * at + 3] = opacity; // clamped to 255 by itself
  }
  context.putImageData(image, 0, 0);
}
