/** The tab that translates: sentences in, the best translation of each out, the other candidates below. */

import { showAlignment, startAlignment } from "./alignment.js";
import { ask, tell } from "./api.js";
import { by } from "./dom.js";
import { number, onLanguage, say } from "./language.js";
import { modelOf, useModels } from "./models.js";
import { joined, sentences } from "./sentences.js";

const PART = 32; // sentences of one request, so that the first translations are there soon
let going = null;
let told = null; // how long it took, and of how much

/** Set up the tab. */
export function startTranslate() {
  startAlignment();
  useModels("translate", (model) => model.kind === "encoder-decoder" && model.reads_text, () => {});
  by("translate-form").addEventListener("submit", (event) => {
    event.preventDefault();
    translate();
  });
  by("translate-source").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) by("translate-form").requestSubmit();
  });
  by("translate-copy").addEventListener("click", copy);
  onLanguage(state);
}

async function translate() {
  const model = modelOf("translate")?.name;
  const source = sentences(by("translate-source").value);
  if (!model || !source.length) return;
  going?.abort();
  const mine = (going = new AbortController());
  const started = performance.now();
  tell(null);
  working(true);
  try {
    const results = await translated(model, source, mine.signal);
    told = { seconds: (performance.now() - started) / 1000, sentences: source.length };
    showAlignment(model, results);
  } catch (error) {
    tell(error);
    if (mine === going) by("translate-result").textContent = "";
  }
  if (mine === going) working(false);
}

/** Part after part; what is there is shown. */
async function translated(model, source, signal) {
  const alternatives = Number(by("translate-best").value);
  const results = [];
  for (let start = 0; start < source.length; start += PART) {
    const part = source.slice(start, start + PART).map((each) => each.text);
    const answer = await ask("/translate", { q: part, model, alternatives }, signal);
    part.forEach((text, at) => {
      const candidates = [answer.translatedText[at], ...(answer.alternatives?.[at] ?? [])];
      results.push({ source: text, candidates: [...new Set(candidates)] });
    });
    by("translate-result").textContent = joined(source.slice(0, results.length), results.map((each) => each.candidates[0]));
  }
  return results;
}

function working(busy) {
  by("translate-result").setAttribute("aria-busy", String(busy));
  by("translate-result").classList.toggle("busy", busy);
  by("translate-copy").hidden = busy || !by("translate-result").textContent;
  if (busy) {
    told = null;
    by("translate-result").textContent = "";
    showAlignment("", []);
  }
  state();
}

function state() {
  const values = told && { seconds: number(told.seconds, 2), sentences: number(told.sentences) };
  by("translate-time").textContent = told ? say("translatedIn", values) : "";
}

async function copy() {
  try {
    await navigator.clipboard.writeText(by("translate-result").textContent);
    by("translate-copy").textContent = say("copied");
  } catch {
    getSelection().selectAllChildren(by("translate-result")); // no permission: it is at least marked
  }
  setTimeout(() => (by("translate-copy").textContent = say("copy")), 1500);
}
