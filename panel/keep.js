/**
 * The board as it was, for a page that opens without a network: grey, with its time, until the lists have come. It is kept as
 * the key is, on the device or in the tab, and forgotten with the shift.
 *
 * @module keep
 */

import { items } from "./orders.js";
import { keptKey, read, write } from "./settings.js";

const BOARD = "vestnik.board";
/** It is saved so long after its first change at the latest. */
const SAVE_MS = 1_000;
/** Orders and bookings that are kept. */
const MOST = 300;
/** What is older is no board of today's. */
const OLD_MS = 12 * 3_600_000;

let timer = 0;
/** Whose board it is. */
let kept = "";

addEventListener("pagehide", () => timer && save());

/** @param {string} store */
export function keepBoard(store) {
  kept = store;
  // Not begun anew by the next change: in a rush it would never end.
  timer ||= setTimeout(save, SAVE_MS);
}

function save() {
  stop();
  const place = keptKey()?.remembered ? "localStorage" : "sessionStorage";
  write(place, BOARD, { store: kept, at: Date.now(), items: [...items.values()].slice(0, MOST) });
}

/** What was kept of this store. @param {string} store @returns {{at: number, items: import("./orders.js").Item[]}|null} */
export function keptBoard(store) {
  const board = read("sessionStorage", BOARD) ?? read("localStorage", BOARD);
  return board?.store === store && Date.now() - board.at < OLD_MS ? board : null;
}

export function forgetBoard() {
  stop();
  write("sessionStorage", BOARD, null);
  write("localStorage", BOARD, null);
}

function stop() {
  clearTimeout(timer);
  timer = 0;
}
