/** Alerts the kitchen to cancellations that no event has reported: only the loaded lists show them. @module missedcancellations */

import { alertTakenBack } from "./alerts.js";
import { connectionOf } from "./connection.js";
import { fromList, items, keepClosed } from "./orders.js";
import { isOwn } from "./stations.js";

/** The most closed orders or bookings that the page searches. */
const CLOSED = 500;
/** @typedef {import("./orders.js").Item} Item */

/**
 * Looks for orders and bookings that were cancelled or removed while this page received no events, and alerts the
 * kitchen to them.
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
      // The order is neither open nor closed, so the shop has removed it. If the server has more closed orders than
      // this list, the order may be among them, so there is no alert.
      else if (!now && !list.more && !items.has(item.key)) alertTakenBack(item, item.status, true);
    }
  }
}
