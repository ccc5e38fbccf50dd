/** What a position scheme does, drawn: what it adds, how it turns, how alike places are, what it says of distances. */

import { drawSigned } from "./canvas.js";
import { by, fill, make } from "./dom.js";
import { say } from "./language.js";
import { unpacked } from "./packed.js";

const HEADS = 16; // maps of a picture with one for each head

/** Show the pictures of a look. @param {any} found */
export function showPictures(found) {
  const key = found.pictures.length ? "scheme" : "schemeNone";
  by("inside-scheme").textContent = say(key, { name: found.model.position });
  fill(by("inside-pictures"), ...found.pictures.map(figure));
}

function figure({ kind, side, shape, scale, maps }) {
  const [, rows, columns] = shape;
  const caption = say(`picture ${kind}`, { scale: scale.toPrecision(3), rows, columns, side: say(`side name ${side}`) });
  const canvases = maps.slice(0, HEADS).map((each) => {
    const canvas = make("canvas", { "aria-hidden": "true" });
    drawSigned(canvas, unpacked(each), rows, columns);
    return canvas;
  });
  const drawn = make("div", { role: "img", "aria-label": caption, class: kind === "bias" ? "maps" : "" }, ...canvases);
  return make("figure", { class: kind }, drawn, make("figcaption", { "aria-hidden": "true" }, caption));
}
