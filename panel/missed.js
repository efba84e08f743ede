/** Cancellations whose events are gone: the lists alone say that the kitchen must stop. @module missed */

import { alertTakenBack } from "./alerts.js";
import { connectionOf } from "./connection.js";
import { fromList, items, keepClosed } from "./orders.js";
import { isOwn } from "./stations.js";

/** The newest closed ones that are looked through where the events themselves are gone. */
const CLOSED = 500;
/** @typedef {import("./orders.js").Item} Item */

/**
 * After the lists were loaded anew, without the events between: what the kitchen was at may have been taken back.
 * @param {string} store
 * @param {Item[]} gone what was open before, and is no longer
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
      // Neither open nor over; where the list goes on, it may be over long since.
      else if (!now && !list.more && !items.has(item.key)) alertTakenBack(item, item.status, true);
    }
  }
}
