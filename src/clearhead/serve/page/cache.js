/** How the cache of keys and values grows with a text, as a line and as a table. */

import { Chart } from "./chart.js";
import { by, fill, make } from "./dom.js";
import { bytes, number, say } from "./language.js";

let chart = null;

/** Show the growth. @param {any} found */
export function showCache(found) {
  const { keeping, model } = found;
  by("inside-cache-card").hidden = !keeping;
  if (!keeping) return;
  const at = (tokens) => keeping.source + keeping.per_token * tokens;
  const key = keeping.per_token ? "cacheText" : "cacheNone";
  by("inside-cache-text").textContent = [
    say(key, { token: bytes(keeping.per_token), weights: bytes(keeping.parameters) }),
    keeping.source ? say("cacheSource", { source: bytes(keeping.source) }) : "",
    keeping.window ? say("cacheWindow", { window: number(keeping.window) }) : "",
  ].filter(Boolean).join(" ");
  for (const id of ["inside-cache", "inside-cache-table"]) by(id).hidden = !keeping.per_token;
  if (!keeping.per_token) return;
  const lengths = [1, ...[0.25, 0.5, 1, 2, 4].map((share) => Math.max(1, Math.round(share * model.length)))];
  const places = [...new Set(lengths)];
  const unit = 1024 ** Math.floor(Math.log2(at(places.at(-1))) / 10); // so that the axis has round numbers
  chart ??= new Chart(by("inside-cache"));
  chart.format = (value) => bytes(value * unit);
  const points = [0, places.at(-1)].map((tokens) => [tokens, at(tokens) / unit]);
  chart.show([{ name: say("cache"), points, colour: "--line-1" }], { x: say("tokensAxis"), zero: true });
  const label = `${say("cache")}: ${places.map((each) => `${number(each)} → ${bytes(at(each))}`).join(say("comma"))}`;
  by("inside-cache").setAttribute("aria-label", label);
  const rows = [
    [say("tokensAxis"), ...places.map((each) => number(each))],
    [say("cacheBytes"), ...places.map((each) => bytes(at(each)))],
  ].map(([name, ...cells]) => make("tr", {}, make("th", { scope: "row" }, name), ...cells.map((each) => make("td", { class: "number" }, each))));
  fill(by("inside-cache-table"), make("table", {}, make("tbody", {}, ...rows)));
}
