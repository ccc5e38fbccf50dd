/** The five tabs: one tab stop, arrow keys between them, the address tells which one is open. */

import { by, onceAFrame } from "./dom.js";

const tabs = () => /** @type {HTMLElement[]} */ ([...document.querySelectorAll('[role="tab"]')]);
const listeners = new Map();
let open = "";

/** Call something whenever a tab is opened or left. @param {string} name @param {(open: boolean) => void} listener */
export function onTab(name, listener) {
  listeners.set(name, listener);
}

/** The tab that is open. */
export function openTab() {
  return open;
}

/** Begin with the tab of the address. */
export function startTabs() {
  const list = document.querySelector('[role="tablist"]');
  list.addEventListener("click", (event) => {
    const tab = event.target.closest('[role="tab"]');
    if (tab) select(tab.getAttribute("aria-controls"));
  });
  list.addEventListener("keydown", move);
  addEventListener("hashchange", () => fromAddress() && select(fromAddress()));
  select(fromAddress() || "translate");
}

function fromAddress() {
  const name = location.hash.slice(2); // #/inside: no id of an element, so that the browser does not jump to it
  return tabs().some((each) => each.getAttribute("aria-controls") === name) ? name : "";
}

function move(event) {
  const all = tabs();
  const at = all.indexOf(event.target);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
  if (at < 0 || to === undefined) return;
  event.preventDefault();
  const tab = all[(to + all.length) % all.length];
  select(tab.getAttribute("aria-controls"));
  tab.focus();
}

/** Scroll the row of tabs; scrollIntoView would also move the place from which the Tab key goes on. */
function bring(tab) {
  const row = tab.parentElement;
  const middle = tab.offsetLeft - row.offsetLeft + tab.offsetWidth / 2;
  row.scrollLeft = middle - row.clientWidth / 2;
}

function select(name) {
  if (name === open) return;
  const before = open;
  open = name;
  for (const each of tabs()) {
    const chosen = each.getAttribute("aria-controls") === name;
    each.setAttribute("aria-selected", String(chosen));
    each.tabIndex = chosen ? 0 : -1;
    by(each.getAttribute("aria-controls")).hidden = !chosen;
    if (chosen) onceAFrame(() => bring(each))();
  }
  by("trouble").hidden = true;
  if (location.hash !== `#/${name}`) history.replaceState(null, "", `#/${name}`);
  listeners.get(before)?.(false);
  listeners.get(name)?.(true);
}
