/** The tab that looks inside a model: one text is read, everything that happened comes back at once. */

import { ask, tell } from "./api.js";
import { showCache } from "./cache.js";
import { by } from "./dom.js";
import { showHeads, startHeads } from "./heads.js";
import { number, onLanguage, say } from "./language.js";
import { showLens, startLens } from "./lens.js";
import { modelOf, useModels } from "./models.js";
import { showPictures } from "./pictures.js";
import { showTokenSides, startTokenSides } from "./sides.js";
import { onTheme } from "./theme.js";

const EXAMPLES = { zh: "我看见一只猫。", en: "The cat sat on the mat." };
let going = null;
let found = null; // what was seen, and of which model

/** Set up the tab. */
export function startInside() {
  startHeads();
  startLens();
  startTokenSides();
  useModels("inside", (model) => model.reads_text, fit);
  by("inside-form").addEventListener("submit", (event) => {
    event.preventDefault();
    look();
  });
  for (const id of ["inside-text", "inside-target"]) by(id).addEventListener("keydown", submitted);
  onLanguage(() => {
    placeholders();
    if (found) show();
  });
  onTheme(() => found && show());
}

function submitted(event) {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) by("inside-form").requestSubmit();
}

function fit(model) {
  by("inside-target-box").hidden = model.kind !== "encoder-decoder";
  by("inside-mask").hidden = !model.mask;
  placeholders();
}

function placeholders() {
  const model = modelOf("inside");
  by("inside-text").placeholder = say("anyTextHint", EXAMPLES);
  if (model?.mask) by("inside-mask").textContent = say("maskHint", { mask: model.mask });
}

async function look() {
  const model = modelOf("inside");
  if (!model) return;
  going?.abort();
  const mine = (going = new AbortController());
  const target = by("inside-target").value;
  const body = { model: model.name, text: by("inside-text").value };
  if (model.kind === "encoder-decoder" && target.trim()) body.target = target;
  tell(null);
  by("inside-state").textContent = say("looking");
  try {
    const seen = await ask("/api/inside/look", body, mine.signal);
    if (mine !== going) return;
    found = { ...seen, model };
    by("inside-found").hidden = false;
    show();
  } catch (error) {
    tell(error);
    if (mine === going) by("inside-state").textContent = "";
  }
}

function show() {
  const count = found.encoder.length + found.decoder.length;
  by("inside-state").textContent = say("looked", { count: number(count), limit: number(found.limit) });
  showTokenSides(found);
  showHeads(found);
  showLens(found);
  showPictures(found);
  showCache(found);
}
