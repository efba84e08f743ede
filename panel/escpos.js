/**
 * What a thermal printer is sent: ESC/POS, with the ticket as a picture. A picture is the same on every printer; letters are not:
 * which code page has Cyrillic, and under which number, differs from one to the next, and none has all that customers write.
 *
 * @module escpos
 */

const [ESC, GS] = [0x1b, 0x1d];
/** Rows that are sent as one picture: a cheap printer has little memory. */
const BAND_ROWS = 128;
/** Lines that are fed before the cut, so that the knife meets white. */
const FEED_LINES = 4;

/** Dots across the paper, by its width in millimetres: 8 dots a millimetre, 48 and 72 mm of which are printed. @type {Record<number, number>} */
export const DOTS = { 58: 384, 80: 576 };

/** @typedef {{width: number, height: number, rows: Uint8Array}} Picture width: in dots, a multiple of 8; rows: a bit for each dot, 1 is black, the leftmost is the highest */

/**
 * One printing, cut off at its end.
 * @param {Picture} picture
 * @param {number} copies
 * @returns {Uint8Array}
 */
export function escpos(picture, copies) {
  const one = [ESC, 0x40];
  const across = picture.width / 8;
  for (let top = 0; top < picture.height; top += BAND_ROWS) {
    const rows = Math.min(BAND_ROWS, picture.height - top);
    // GS v 0: a picture of so many bytes across and so many rows, both with the low byte first.
    one.push(GS, 0x76, 0x30, 0, across & 0xff, across >> 8, rows & 0xff, rows >> 8);
    for (let at = top * across; at < (top + rows) * across; at += 1) one.push(picture.rows[at]);
  }
  one.push(ESC, 0x64, FEED_LINES, GS, 0x56, 66, 0);
  const bytes = new Uint8Array(one.length * copies);
  for (let copy = 0; copy < copies; copy += 1) bytes.set(one, copy * one.length);
  return bytes;
}
