/**
 * The board as it was, for a page that opens without a network: grey, with its time, until the lists have come. It is kept as
 * the key is, on the device or in the tab, and forgotten with the shift.
 *
 * @module keep
 */

import { items } from "./orders.js";
import { keptKey, read, write } from "./settings.js";

const BOARD = "vestnik.board";
const SAVE_MS = 1_000;
/** Orders and bookings that are kept. */
const MOST = 300;
/** What is older is no board of today's. */
const OLD_MS = 12 * 3_600_000;

let timer = 0;

/** @param {string} store */
export function keepBoard(store) {
  clearTimeout(timer);
  timer = setTimeout(() => save(store), SAVE_MS);
}

/** @param {string} store */
function save(store) {
  const place = keptKey()?.remembered ? "localStorage" : "sessionStorage";
  write(place, BOARD, { store, at: Date.now(), items: [...items.values()].slice(0, MOST) });
}

/** What was kept of this store. @param {string} store @returns {{at: number, items: import("./orders.js").Item[]}|null} */
export function keptBoard(store) {
  const kept = read("sessionStorage", BOARD) ?? read("localStorage", BOARD);
  return kept?.store === store && Date.now() - kept.at < OLD_MS ? kept : null;
}

export function forgetBoard() {
  clearTimeout(timer);
  write("sessionStorage", BOARD, null);
  write("localStorage", BOARD, null);
}
