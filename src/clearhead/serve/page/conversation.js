/** Conversations as files: JSON out, and JSON in after it has been checked. */

import { Trouble } from "./api.js";
import { make } from "./dom.js";
import { say } from "./language.js";

const FORMAT = "clearhead-conversation";
const ROLES = ["system", "user", "assistant"];
const LARGEST = 5e6; // bytes of a file

/**
 * The document of a conversation.
 * @param {string} model @param {Array<{role: string, content: string}>} messages @param {object} sampling
 */
export function written(model, messages, sampling) {
  return JSON.stringify({ format: FORMAT, version: 1, model, saved: new Date().toISOString(), sampling, messages }, null, 2);
}

/** Let the browser save a text as a file. @param {string} name @param {string} text */
export function download(name, text) {
  const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/**
 * What a file holds.
 * @param {File} file
 * @returns {Promise<{messages: Array<{role: string, content: string}>, sampling: any}>}
 */
export async function read(file) {
  if (file.size > LARGEST) throw new Trouble(say("importLarge"));
  const document = parsed(await file.text());
  const messages = Array.isArray(document) ? document : document?.messages; // a bare list of messages is one too
  if (!Array.isArray(messages) || !messages.length || !messages.every(valid)) throw new Trouble(say("importWrong"));
  return { messages: messages.map(({ role, content }) => ({ role, content })), sampling: document.sampling };
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Trouble(say("importWrong"));
  }
}

function valid(message) {
  return ROLES.includes(message?.role) && typeof message?.content === "string";
}
