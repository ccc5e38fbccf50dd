/** The tab of training runs: which there are, and their lines as they come, asked for again and again. */

import { ask, tell } from "./api.js";
import { by, choices } from "./dom.js";
import { onLanguage, say } from "./language.js";
import { clearRun, showRun, startRunView } from "./run_view.js";
import { onTab } from "./tabs.js";

const PAUSE = 3000; // milliseconds between two questions
const LIST_PAUSE = 15000; // and between two looks at the list
let visible = false;
let timer = 0;
let listed = 0;
let run = null; // what is known of the chosen one
let served = null;
let failed = false;

/** Set up the tab; it asks only while it is open. */
export function startRuns() {
  startRunView();
  onTab("runs", (open) => {
    visible = open;
    wake();
  });
  document.addEventListener("visibilitychange", wake);
  by("runs-which").addEventListener("change", () => choose(by("runs-which").value));
  onLanguage(() => {
    if (served) nothing();
    if (run) showRun(run);
  });
}

function wake() {
  clearTimeout(timer);
  if (visible && !document.hidden) poll();
}

async function poll() {
  try {
    if (performance.now() - listed > LIST_PAUSE || !listed) await list();
    if (run) await news();
    if (failed) tell(null);
    failed = false;
  } catch (error) {
    if (!failed) tell(error); // the next question may be answered
    failed = true;
  }
  clearTimeout(timer);
  if (visible && !document.hidden) timer = setTimeout(poll, PAUSE);
}

async function list() {
  served = await ask("/api/runs");
  listed = performance.now();
  choices(by("runs-which"), served.runs.map(({ name }) => [name, name]));
  by("runs-which").disabled = !served.runs.length;
  nothing();
  const name = by("runs-which").value;
  if (name && run?.name !== name) await choose(name);
  if (!name) run = null;
}

function nothing() {
  by("runs-none").hidden = served.runs.length > 0;
  by("runs-found").hidden = !served.runs.length;
  by("runs-none").textContent = say(served.served ? "runsEmpty" : "runsNone");
}

async function choose(name) {
  const path = `/api/runs/${encodeURIComponent(name)}`;
  const mine = { name, path, lines: [], next: 0, edition: "", changed: 0, recipe: "", updates: null, finished: false };
  run = mine;
  clearRun();
  try {
    Object.assign(mine, await ask(path));
    if (run === mine) await news();
  } catch (error) {
    tell(error);
  }
}

/** Read what is new; a run that was begun anew is read from its start. */
async function news() {
  const mine = run;
  let more = true;
  while (more && run === mine) {
    const found = await ask(`${mine.path}/metrics?offset=${mine.next}&edition=${encodeURIComponent(mine.edition)}`);
    if (found.anew) mine.lines = [];
    mine.lines = mine.lines.concat(found.lines);
    Object.assign(mine, { next: found.next, edition: found.edition, changed: found.changed });
    more = found.more;
  }
  if (run === mine) showRun(mine);
}
