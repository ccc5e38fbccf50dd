/** A text cut into sentences, as the server does it: models are trained on sentences. Lines stay lines. */

const ENDS = /(?<=[。！？])(?=[^。！？”’」』）)\s])|(?<=[.!?…]["”’)]?)\s+(?=[\p{Lu}\p{Lo}"“‘(¿¡])/u;
const UNSPACED = /[\u3000-\u30ff\u4e00-\u9fff\uff00-\uffef]$/; // after a Chinese or Japanese letter there is no space

/** @typedef {{text: string, line: number}} Sentence */

/** The sentences of a text and the lines they stand in. @param {string} text @returns {Sentence[]} */
export function sentences(text) {
  return text.split(/\r?\n/).flatMap((each, line) =>
    each.split(ENDS).map((part) => part.trim()).filter(Boolean).map((part) => ({ text: part, line })),
  );
}

/** Translations put together as their sentences stood. @param {Sentence[]} source @param {string[]} translations */
export function joined(source, translations) {
  let text = "";
  source.forEach(({ line }, index) => {
    if (index) text += "\n".repeat(line - source[index - 1].line) || (UNSPACED.test(text) ? "" : " ");
    text += translations[index];
  });
  return text;
}
