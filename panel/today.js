/** Counts the orders of the current day. @module today */

import { showCalm } from "./alarmbar.js";
import { startOfDay } from "./calendar.js";

/** The most pages that the panel reads from the server. For a store with more orders, the panel shows no count. */
const PAGES = 5;
const PAGE = 200;

/** Counts the orders of the current day once. After that, `countOne` adds each new order. @param {import("./connection.js").Opened} opened */
export async function countToday(opened) {
  const began = startOfDay().getTime();
  let [count, last] = [0, /** @type {any} */ (undefined)];
  for (let page = 0; page < PAGES; page += 1) {
    const asked = { status: "all", limit: PAGE, before: last?.id, before_source: last?.source };
    const list = await opened.connection.api.list("orders", asked).catch(() => null);
    if (!list) return;
    const ofToday = list.orders.filter(({ created_at: at }) => Date.parse(at) >= began);
    count += ofToday.length;
    last = list.orders.at(-1);
    if (!list.more || ofToday.length < list.orders.length) {
      opened.today = count;
      return showCalm();
    }
  }
}
