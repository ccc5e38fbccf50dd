/** The tab that continues texts; the chat beside it is in chat.js. */

import { stream, tell } from "./api.js";
import { startChat } from "./chat.js";
import { by, fill, make } from "./dom.js";
import { onLanguage, say } from "./language.js";
import { modelOf, useModels } from "./models.js";
import { sampling, startSampling } from "./sampling.js";
import { ended, Typing } from "./typing.js";

let going = null; // what can stop the answer on its way
let typing = null;

/** Set up the tab. */
export function startComplete() {
  startSampling();
  useModels("complete", (model) => model.kind !== "encoder-only" && model.reads_text, fit);
  for (const each of document.querySelectorAll('input[name="manner"]')) each.addEventListener("change", manner);
  by("completion").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!going) write();
  });
  by("completion-stop").addEventListener("click", () => going?.abort());
  by("completion-append").addEventListener("click", append);
  by("completion-prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) by("completion").requestSubmit();
  });
  onLanguage(() => typing && state());
  startChat();
  manner();
}

function manner() {
  const chat = document.querySelector('input[name="manner"]:checked').value === "chat";
  by("completion").hidden = chat;
  by("chat").hidden = !chat;
}

function fit(model) {
  const chats = model.kind === "decoder-only";
  const radio = document.querySelector('input[name="manner"][value="chat"]');
  radio.disabled = !chats;
  radio.closest("label").hidden = !chats;
  if (!chats && radio.checked) {
    document.querySelector('input[name="manner"][value="completion"]').checked = true;
    manner();
  }
  by("chat-template").dataset.plain = String(!model.chat_template);
  by("chat-template").textContent = model.chat_template ? "" : say("plainTemplate");
}

async function write() {
  const model = modelOf("complete");
  if (!model) return;
  const prompt = by("completion-prompt").value;
  const output = by("completion-output");
  tell(null);
  going = new AbortController();
  fill(output, ...(model.kind === "decoder-only" ? [make("span", { class: "given" }, prompt)] : []));
  typing = new Typing(output, output, state);
  working(true);
  try {
    const body = { model: model.name, prompt, ...sampling() };
    await stream("/v1/completions", body, going.signal, (event) => typing.take(event));
    typing.key = `finish ${typing.finish ?? "stop"}`;
  } catch (error) {
    typing.key = error.name === "AbortError" ? "finish stopped" : "finish failed";
    tell(error);
  }
  typing.write();
  going = null;
  working(false);
  state();
}

function working(busy) {
  const output = by("completion-output");
  output.classList.toggle("busy", busy);
  output.setAttribute("aria-busy", String(busy));
  output.setAttribute("aria-live", "polite");
  by("completion-stop").disabled = !busy;
  by("completion").querySelector(".main").disabled = busy;
  by("completion-append").hidden = busy || !typing?.text || modelOf("complete")?.kind !== "decoder-only";
  if (busy) by("completion-state").textContent = say("writing");
}

function state() {
  if (typing.key) by("completion-state").textContent = ended(typing, typing.key);
  else if (typing.pieces % 20 === 0) by("completion-state").textContent = ended(typing, "writing");
}

function append() {
  by("completion-prompt").value += typing.text;
  by("completion-append").hidden = true;
  by("completion-prompt").focus();
}
