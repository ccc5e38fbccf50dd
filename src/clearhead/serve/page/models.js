/** The models that the server has, and the selects that choose among them. */

import { ask, tell } from "./api.js";
import { by, choices } from "./dom.js";
import { number, onLanguage, say } from "./language.js";

/** @type {Array<any>} */
let models = [];
const rooms = [];

/**
 * Let a tab choose among the models that it can use.
 * @param {string} room id of the tab; its select is `room-model`, its facts `room-facts`, its notice `room-none`
 * @param {(model: any) => boolean} fits
 * @param {(model: any) => void} chosen is told the choice, and every change of it
 */
export function useModels(room, fits, chosen) {
  const select = by(`${room}-model`);
  rooms.push({ room, fits, chosen, select });
  select.addEventListener("change", () => announce(rooms.find((each) => each.room === room)));
}

/** Read the list of models; the tabs are told. */
export async function loadModels() {
  try {
    models = (await ask("/api/inside/models")).models;
  } catch (error) {
    tell(error);
    return;
  }
  for (const each of rooms) {
    const found = models.filter(each.fits);
    choices(each.select, found.map((model) => [model.name, model.name]));
    each.select.disabled = !found.length;
    const none = by(`${each.room}-none`);
    if (none) none.hidden = found.length > 0;
    announce(each);
  }
}

/** The model that a tab has chosen. @param {string} room */
export function modelOf(room) {
  return models.find((each) => each.name === by(`${room}-model`).value);
}

/** Start to keep the facts in the language of the page. */
export function startModels() {
  onLanguage(() => rooms.forEach(facts));
}

function announce(room) {
  facts(room);
  const model = modelOf(room.room);
  if (model) room.chosen(model);
}

function facts(room) {
  const model = modelOf(room.room);
  by(`${room.room}-facts`).textContent = model ? summary(model) : "";
}

function summary(model) {
  const { encoder, decoder } = model.layers;
  const layers = [encoder, decoder].filter(Boolean).join(" + ");
  const values = { layers, heads: model.heads, width: number(model.d_model), parameters: number(model.parameters), length: number(model.length) };
  return `${say(`kind ${model.kind}`)} · ${say("modelFacts", values)}`;
}
