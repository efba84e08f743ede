/** Alerts about cancellations whose events are lost: only the loaded lists show them. @module missed */

import { alertTakenBack } from "./alerts.js";
import { connectionOf } from "./connection.js";
import { fromList, items, keepClosed } from "./orders.js";
import { isOwn } from "./stations.js";

/** The most closed orders or bookings that are searched. */
const CLOSED = 500;
/** @typedef {import("./orders.js").Item} Item */

/**
 * Compares the board with the lists that were just loaded. An order that the kitchen was making may have been
 * cancelled.
 * @param {string} store
 * @param {Item[]} gone the orders and bookings that were open before the load, and are not open now
 */
export async function alertMissedCancellations(store, gone) {
  for (const kind of /** @type {const} */ (["orders", "bookings"])) {
    const mine = gone.filter((item) => item.kind === kind && isOwn(item));
    if (!mine.length) continue;
    const list = await connectionOf(store)?.api.list(kind, { status: "completed,rejected,cancelled", limit: CLOSED }).catch(() => null);
    if (!list) continue;
    const over = new Map(list[kind].map((row) => fromList(store, kind, row)).map((item) => [item.key, item]));
    for (const item of mine) {
      const now = over.get(item.key);
      if (now) keepClosed(now);
      if (now?.status === "cancelled") alertTakenBack(now, item.status, false);
      // The order is neither open nor closed, so it was removed. With more pages, it may have been closed long ago.
      else if (!now && !list.more && !items.has(item.key)) alertTakenBack(item, item.status, true);
    }
  }
}
