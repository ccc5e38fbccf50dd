/** How the page asks its server: JSON in, JSON or a stream of events out, errors as one sentence. */

import { by } from "./dom.js";
import { say } from "./language.js";

const KEY = "clearhead-key";
let asking = null; // the dialog that is open

/** A refusal or failure that the page shows. */
export class Trouble extends Error {}

/**
 * Ask for JSON.
 * @param {string} path
 * @param {object} [body] sent as JSON with POST; without one it is a GET
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export async function ask(path, body, signal) {
  const answer = await send(path, body, signal);
  return answer.json();
}

/**
 * Ask for a stream of events.
 * @param {string} path
 * @param {object} body
 * @param {AbortSignal} signal closing it ends the request on the server
 * @param {(event: any) => void} take is given each event
 */
export async function stream(path, body, signal, take) {
  const answer = await send(path, { ...body, stream: true, stream_options: { include_usage: true } }, signal);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    const lines = (rest + (value ?? "")).split("\n");
    rest = done ? "" : lines.pop();
    for (const line of lines) {
      const data = line.startsWith("data:") ? line.slice(5).trim() : "";
      if (data && data !== "[DONE]") take(checked(JSON.parse(data)));
    }
    if (done) return;
  }
}

/** Show a failure at the top of the page; null takes it away. @param {unknown} error */
export function tell(error) {
  const place = by("trouble");
  place.hidden = error === null || error?.name === "AbortError";
  if (place.hidden) return;
  place.textContent = error instanceof Trouble ? error.message : say("broken", { what: String(error?.message ?? error) });
  if (place.getBoundingClientRect().top < 0) scrollTo({ top: place.offsetTop - 16 });
}

function checked(event) {
  if (event.error) throw new Trouble(event.error.message ?? String(event.error));
  return event;
}

async function send(path, body, signal) {
  const answer = await attempt(path, body, signal);
  if (answer.status === 401 && (await askKey())) return accepted(await attempt(path, body, signal));
  return accepted(answer);
}

async function attempt(path, body, signal) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  const key = sessionStorage.getItem(KEY);
  if (key) headers.Authorization = `Bearer ${key}`;
  const method = body === undefined ? "GET" : "POST";
  try {
    return await fetch(path, { method, headers, body: body && JSON.stringify(body), signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble(say("unreachable"));
  }
}

async function accepted(answer) {
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  const message = told.error?.message ?? told.error ?? answer.statusText;
  if (answer.status === 401) throw new Trouble(say("wrongKey"));
  throw new Trouble(answer.status === 429 ? say("busy", { message }) : String(message));
}

/** Ask for the key of the server; true if one was given. It is forgotten when the browser window closes. */
function askKey() {
  asking ??= new Promise((resolve) => {
    const dialog = by("key-dialog");
    const form = by("key-form");
    const done = (given) => {
      asking = null;
      if (given) sessionStorage.setItem(KEY, by("key").value.trim());
      by("key").value = "";
      dialog.close();
      resolve(given);
    };
    form.onsubmit = (event) => {
      event.preventDefault();
      done(event.submitter?.value === "ok");
    };
    dialog.oncancel = (event) => {
      event.preventDefault();
      done(false);
    };
    dialog.showModal();
  });
  return asking;
}
