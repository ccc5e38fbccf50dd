/** Conversations: what was said, the answer on its way, export and import. */

import { stream, tell } from "./api.js";
import { download, read, written } from "./conversation.js";
import { by, fill, make } from "./dom.js";
import { onLanguage, say } from "./language.js";
import { modelOf } from "./models.js";
import { sampling, setSampling } from "./sampling.js";
import { ended, Typing } from "./typing.js";

/** @type {Array<{role: string, content: string}>} */
let messages = [];
let going = null;
let typing = null;

/** Set up the chat. */
export function startChat() {
  by("chat").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  by("chat-input").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return; // Enter that ends a Chinese word sends nothing
    event.preventDefault();
    by("chat").requestSubmit();
  });
  by("chat-stop").addEventListener("click", () => going?.abort());
  by("chat-again").addEventListener("click", again);
  by("chat-clear").addEventListener("click", () => begin([]));
  by("chat-export").addEventListener("click", save);
  by("chat-import").addEventListener("click", () => by("chat-file").click());
  by("chat-file").addEventListener("change", open);
  onLanguage(relabel);
  begin([]);
}

function begin(list) {
  going?.abort();
  messages = list.filter((each) => each.role !== "system");
  const system = list.find((each) => each.role === "system");
  if (system || !list.length) by("chat-system").value = system?.content ?? "";
  fill(by("chat-log"), ...messages.map((each) => turn(each.role, each.content)));
  by("chat-log").scrollTop = by("chat-log").scrollHeight;
  by("chat-state").textContent = "";
  typing = null;
  working(false);
}

function send() {
  const content = by("chat-input").value.trim();
  if (!content || going || !modelOf("complete")) return;
  by("chat-input").value = "";
  messages.push({ role: "user", content });
  by("chat-log").append(turn("user", content));
  answer();
}

function again() {
  if (going) return;
  if (messages.at(-1)?.role === "assistant") {
    messages.pop();
    by("chat-log").lastElementChild.remove();
  }
  if (messages.at(-1)?.role === "user") answer();
}

async function answer() {
  tell(null);
  const said = turn("assistant", "");
  const mine = (going = new AbortController());
  said.classList.add("busy");
  by("chat-log").append(said);
  by("chat-log").scrollTop = by("chat-log").scrollHeight;
  const words = (typing = new Typing(said.querySelector(".said"), by("chat-log"), state));
  working(true);
  try {
    const body = { model: modelOf("complete").name, messages: whole(), ...sampling() };
    await stream("/v1/chat/completions", body, mine.signal, (event) => words.take(event));
    words.key = `finish ${words.finish ?? "stop"}`;
  } catch (error) {
    words.key = error.name === "AbortError" ? "finish stopped" : "finish failed";
    tell(error);
  }
  said.classList.remove("busy");
  if (going !== mine) return; // a new conversation has begun meanwhile
  going = null;
  words.write();
  if (words.text) messages.push({ role: "assistant", content: words.text });
  else said.remove();
  working(false);
  state();
}

/** The conversation as the API takes it. */
function whole() {
  const system = by("chat-system").value.trim();
  return [...(system ? [{ role: "system", content: system }] : []), ...messages];
}

function turn(role, content) {
  const who = make("p", { class: "who", "data-role": role }, say(`role ${role}`));
  return make("div", { class: `turn ${role}` }, who, make("div", { class: "said" }, content));
}

function working(busy) {
  const empty = !messages.length;
  if (!busy) going = null;
  by("chat-log").setAttribute("aria-busy", String(busy));
  by("chat-stop").disabled = !busy;
  for (const id of ["chat-send", "chat-import"]) by(id).disabled = busy;
  for (const id of ["chat-export", "chat-clear"]) by(id).disabled = empty;
  by("chat-again").disabled = busy || empty;
  if (busy) by("chat-state").textContent = say("writing");
}

function state() {
  if (!typing) return;
  if (typing.key) by("chat-state").textContent = ended(typing, typing.key);
  else if (typing.pieces % 20 === 0) by("chat-state").textContent = ended(typing, "writing");
}

function relabel() {
  for (const each of by("chat-log").querySelectorAll("[data-role]")) each.textContent = say(`role ${each.dataset.role}`);
  by("chat-log").dataset.empty = say("noMessages");
  if (by("chat-template").dataset.plain === "true") by("chat-template").textContent = say("plainTemplate");
  state();
}

function save() {
  const name = `conversation-${new Date().toISOString().slice(0, 19).replaceAll(":", "")}.json`;
  download(name, written(modelOf("complete")?.name ?? "", whole(), sampling()));
}

async function open() {
  const [file] = by("chat-file").files;
  by("chat-file").value = "";
  if (!file) return;
  try {
    const found = await read(file);
    tell(null);
    begin(found.messages);
    setSampling(found.sampling);
    by("chat-state").textContent = say("imported", { count: messages.length });
  } catch (error) {
    tell(error);
  }
}
