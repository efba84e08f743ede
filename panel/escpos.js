/**
 * Encodes a ticket for a thermal printer: ESC/POS, with the ticket as a picture. A picture looks the same on every
 * printer, but text does not. Code pages differ between printers, and no code page has all letters that customers
 * write.
 *
 * @module escpos
 */

const [ESC, GS] = [0x1b, 0x1d];
/** The most rows of one picture: a cheap printer has little memory. */
const BAND_ROWS = 128;
/** Lines of paper to feed before the cut, so that the knife does not cut the text. */
const FEED_LINES = 4;

/**
 * Dots across the paper, by its width in millimetres. A printer prints on 48 or 72 mm of this width, with 8 dots per
 * millimetre.
 * @type {Record<number, number>}
 */
export const DOTS = { 58: 384, 80: 576 };

/** @typedef {{width: number, height: number, rows: Uint8Array}} Picture width: in dots, a multiple of 8; rows: one bit per dot, 1 is black, and the leftmost dot is the highest bit */

/**
 * The commands that print a picture, and cut the paper after each copy.
 * @param {Picture} picture
 * @param {number} copies
 * @returns {Uint8Array}
 */
export function escpos(picture, copies) {
  const one = [ESC, 0x40];
  const across = picture.width / 8;
  for (let top = 0; top < picture.height; top += BAND_ROWS) {
    const rows = Math.min(BAND_ROWS, picture.height - top);
    // GS v 0 prints a picture. Bytes per row and number of rows follow, both with the low byte first.
    one.push(GS, 0x76, 0x30, 0, across & 0xff, across >> 8, rows & 0xff, rows >> 8);
    for (let at = top * across; at < (top + rows) * across; at += 1) one.push(picture.rows[at]);
  }
  one.push(ESC, 0x64, FEED_LINES, GS, 0x56, 66, 0);
  const bytes = new Uint8Array(one.length * copies);
  for (let copy = 0; copy < copies; copy += 1) bytes.set(one, copy * one.length);
  return bytes;
}
