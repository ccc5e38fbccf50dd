/** The tab of the lab: the questions of its report, if the server was given one, or how to get one. */

import { ask, tell } from "./api.js";
import { by, fill, make } from "./dom.js";
import { language, onLanguage, say } from "./language.js";
import { onTab } from "./tabs.js";

let report = null;

/** Set up the tab; the report is asked for when it is first opened. */
export function startLab() {
  onTab("lab", async (open) => {
    if (!open || report?.questions.length) return;
    by("lab-none").hidden = false;
    by("lab-none").textContent = say("loading");
    try {
      report = await ask("/api/lab");
      show();
    } catch (error) {
      by("lab-none").hidden = true;
      tell(error);
    }
  });
  by("lab-search").addEventListener("input", search);
  onLanguage(() => report && show());
}

function show() {
  const { served, questions } = report;
  by("lab-none").hidden = questions.length > 0;
  by("lab-found").hidden = !questions.length;
  by("lab-none").textContent = say(served ? "labEmpty" : "labNone");
  fill(by("lab-list"), ...questions.map(line));
  search();
}

function line({ id, title, verdicts }) {
  const words = `${id} ${title.en} ${title.zh}`.toLowerCase();
  const badges = verdicts.map((each) => make("span", { class: `badge ${each}` }, say(`verdict ${each}`)));
  return make("li", { "data-words": words }, make("a", { href: `/lab/${encodeURIComponent(id)}.html` }, title[language()]), make("div", {}, ...badges));
}

function search() {
  const wanted = by("lab-search").value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const each of by("lab-list").children) {
    each.hidden = !wanted.every((word) => each.dataset.words.includes(word));
    count += each.hidden ? 0 : 1;
  }
  by("lab-count").textContent = say("labCount", { count, all: report?.questions.length ?? 0 });
}
