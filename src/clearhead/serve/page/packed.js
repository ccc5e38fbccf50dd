/** Numbers as the server packs them: one byte each, in base64. */

/** The bytes of a text in base64. @param {string} text @returns {Uint8Array} */
export function unpacked(text) {
  return Uint8Array.from(atob(text), (each) => each.charCodeAt(0));
}

/** One map of attention: rows are queries, columns are keys. */
export class Weights {
  /** @param {string} text @param {number} rows @param {number} columns */
  constructor(text, rows, columns) {
    this.bytes = unpacked(text);
    this.rows = rows;
    this.columns = columns;
    this.largest = Math.max(1, this.bytes.reduce((most, each) => Math.max(most, each), 0)) / 255;
  }

  /** A weight from 0 to 1. @param {number} row @param {number} column */
  at(row, column) {
    return this.bytes[row * this.columns + column] / 255;
  }

  /** All keys of a query. @param {number} row */
  row(row) {
    return Array.from(this.bytes.subarray(row * this.columns, (row + 1) * this.columns), (each) => each / 255);
  }

  /** All queries of a key. @param {number} column */
  column(column) {
    return Array.from({ length: this.rows }, (_, row) => this.at(row, column));
  }
}

/** The places of the largest numbers, the largest first. @param {number[]} numbers @param {number} count */
export function largest(numbers, count) {
  return numbers
    .map((value, at) => ({ value, at }))
    .sort((left, right) => right.value - left.value)
    .slice(0, count);
}
