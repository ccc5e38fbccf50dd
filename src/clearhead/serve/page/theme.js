/** Light or dark: as the system says, until somebody chooses. Pictures that are drawn are told of a change. */

import { by, keep, kept } from "./dom.js";
import { onLanguage, say } from "./language.js";

const listeners = new Set();
const dark = matchMedia("(prefers-color-scheme: dark)");

/** Call something whenever the colours have changed. @param {() => void} listener */
export function onTheme(listener) {
  listeners.add(listener);
}

/** The value of a colour of base.css. @param {string} name such as "--ink" */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Red, green and blue of the shade of weights. @param {string} [name] @returns {number[]} */
export function shade(name = "--heat") {
  return colour(name).split(",").map(Number);
}

/** Begin, and listen to the button. */
export function startTheme() {
  show();
  dark.addEventListener("change", show);
  onLanguage(label);
  by("theme").addEventListener("click", () => {
    keep("theme", document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    show();
  });
}

function show() {
  const chosen = kept("theme");
  document.documentElement.dataset.theme = ["light", "dark"].includes(chosen) ? chosen : dark.matches ? "dark" : "light";
  label();
  listeners.forEach((each) => each());
}

function label() {
  by("theme").textContent = say(document.documentElement.dataset.theme === "dark" ? "toLight" : "toDark");
}
