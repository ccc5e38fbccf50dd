/** The language of the page: English or Chinese. The choice is remembered, and shared with the report of the lab. */

import { keep, kept } from "./dom.js";
import { WORDS } from "./words.js";

const LANGUAGES = ["en", "zh"];
const listeners = new Set();
let current = 0;

/**
 * A text of the page.
 * @param {string} key in words.js
 * @param {Object<string, string|number>} [values] for the places in braces
 */
export function say(key, values = {}) {
  const text = WORDS[key]?.[current] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** "en" or "zh". */
export function language() {
  return LANGUAGES[current];
}

/** A number as people read it. @param {number} value @param {number} [digits] after the point, at most */
export function number(value, digits = 0) {
  return value.toLocaleString(language() === "zh" ? "zh-CN" : "en-GB", { maximumFractionDigits: digits });
}

/** A number of about three digits, whatever its size. @param {number} value */
export function short(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1e7 || size < 1e-3 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}

/** A share of one as percent. @param {number} share */
export function percent(share) {
  return `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
}

/** Bytes as people read them. @param {number} count */
export function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const step = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, count)) / 10));
  return `${number(count / 1024 ** step, step ? 1 : 0)} ${units[step]}`;
}

/** Call something whenever the language has changed. @param {() => void} listener */
export function onLanguage(listener) {
  listeners.add(listener);
}

/** Begin with the language that was chosen last, or that of the browser. */
export function startLanguage() {
  const wanted = kept("lang") ?? ((navigator.language || "en").startsWith("zh") ? "zh" : "en");
  speak(Math.max(0, LANGUAGES.indexOf(wanted)));
  document.getElementById("language").addEventListener("click", () => {
    speak(1 - current);
    keep("lang", language());
  });
}

function speak(index) {
  current = index;
  document.documentElement.lang = ["en", "zh-Hans"][index];
  for (const each of document.querySelectorAll("[data-text]")) each.textContent = say(each.dataset.text);
  for (const each of document.querySelectorAll("[data-label]")) each.setAttribute("aria-label", say(each.dataset.label));
  for (const each of document.querySelectorAll("[data-placeholder]")) each.placeholder = say(each.dataset.placeholder);
  const button = document.getElementById("language");
  button.textContent = ["中文", "English"][index];
  button.lang = ["zh", "en"][index];
  listeners.forEach((each) => each());
}
