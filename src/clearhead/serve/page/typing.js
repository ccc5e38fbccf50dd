/** Text that arrives in pieces: written once a frame into one text node, however fast it comes. */

import { onceAFrame } from "./dom.js";
import { number, say } from "./language.js";

/** An answer on its way: its text, its tokens, its speed. */
export class Typing {
  /**
   * @param {HTMLElement} place that shows the text
   * @param {HTMLElement} scroller that is kept at its end, if it was there
   * @param {() => void} told is called once a frame while text comes
   */
  constructor(place, scroller, told) {
    this.node = document.createTextNode("");
    place.append(this.node);
    this.scroller = scroller;
    this.pending = "";
    this.text = "";
    this.pieces = 0; // events that brought text, about as many as tokens
    this.tokens = null; // told by the server at the end
    this.finish = null;
    this.started = performance.now();
    this.first = null;
    this.last = null;
    this.flush = onceAFrame(() => this.write(told));
  }

  /** Take in one event of /v1/completions or /v1/chat/completions. @param {any} event */
  take(event) {
    const choice = event.choices?.[0];
    const piece = choice?.text ?? choice?.delta?.content ?? "";
    if (event.usage) this.tokens = event.usage.completion_tokens;
    if (choice?.finish_reason) this.finish = choice.finish_reason;
    if (!piece) return;
    this.last = performance.now();
    this.first ??= this.last;
    this.pieces += 1;
    this.pending += piece;
    this.text += piece;
    this.flush();
  }

  /** Tokens, and how many came in a second; null before there are two. */
  get speed() {
    const count = this.tokens ?? this.pieces;
    const seconds = this.first === null ? 0 : (this.last - this.first) / 1000;
    return { count, perSecond: seconds > 0 && count > 1 ? (count - 1) / seconds : null };
  }

  write(told = () => {}) {
    const { scroller } = this;
    const atEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 40;
    this.node.appendData(this.pending);
    this.pending = "";
    if (atEnd) scroller.scrollTop = scroller.scrollHeight;
    told();
  }
}

/** What became of an answer, for people: how it ended, its tokens, their speed. @param {Typing} answer @param {string} key */
export function ended(answer, key) {
  const { count, perSecond } = answer.speed;
  const speed = perSecond === null ? "" : ` · ${say("perSecond", { speed: number(perSecond, perSecond < 100 ? 1 : 0) })}`;
  return `${say(key)} · ${say("tokenCount", { count: number(count) })}${speed}`;
}
