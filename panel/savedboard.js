/**
 * Saves the board, so that a page can show it while the server cannot be reached. The page shows the saved board in
 * grey, with the time of the save, until the lists are loaded. Like the key, the board is saved on the device or in
 * the tab. The end of the shift deletes the saved board.
 *
 * @module savedboard
 */

import { live } from "./connection.js";
import { items } from "./orders.js";
import { keptKey, read, write } from "./settings.js";

const BOARD = "vestnik.board";
/** The longest time between a change of the board and its save. */
const SAVE_MS = 1_000;
/** The most orders and bookings that are saved. */
const MOST = 300;
/** The page does not show a board that was saved longer ago than this. */
const OLD_MS = 12 * 3_600_000;

let timer = 0;

addEventListener("pagehide", () => timer && save());

export function keepBoard() {
  // Do not restart a running timer: with frequent changes, the timer would never end, and the board would never be
  // saved.
  timer ||= setTimeout(save, SAVE_MS);
}

function save() {
  stop();
  const place = keptKey()?.remembered ? "localStorage" : "sessionStorage";
  const at = Object.fromEntries([...live.stores.values()].map(({ store, keptAt }) => [store, keptAt ?? Date.now()]));
  write(place, BOARD, { at, items: [...items.values()].slice(0, MOST) });
}

/** Restores the saved orders and bookings of the open stores. */
export function restoreBoard() {
  const board = read("sessionStorage", BOARD) ?? read("localStorage", BOARD);
  for (const opened of live.stores.values()) {
    const at = board?.at?.[opened.store];
    if (!(Date.now() - at < OLD_MS)) continue;
    opened.keptAt = at;
    board.items.forEach((item) => item.store === opened.store && items.set(item.key, item));
  }
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
