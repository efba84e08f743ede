/**
 * The board as it was, for a page that opens without a network: grey, with its time, until the lists have come. It is kept as
 * the key is, on the device or in the tab, and forgotten with the shift.
 *
 * @module keep
 */

import { live } from "./connection.js";
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

addEventListener("pagehide", () => timer && save());

export function keepBoard() {
  // Not begun anew by the next change: in a rush it would never end.
  timer ||= setTimeout(save, SAVE_MS);
}

function save() {
  stop();
  const place = keptKey()?.remembered ? "localStorage" : "sessionStorage";
  const at = Object.fromEntries([...live.stores.values()].map(({ store, keptAt }) => [store, keptAt ?? Date.now()]));
  write(place, BOARD, { at, items: [...items.values()].slice(0, MOST) });
}

/** Puts what was kept of the opened stores on the board. */
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
