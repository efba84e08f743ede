/**
 * Reports to the server that an event is on the screen, after the browser has painted it. A column makes cards for its
 * first orders only. The event of an order without a card is reported when the page shows the order.
 * @module rendered
 */

import { connectionOf } from "./connection.js";
import { items } from "./orders.js";

/** After this many events, the page deletes its performance measures. */
const MEASURES = 1_000;

/** An event, and the key of its order or booking if the event is about one. @typedef {{id: string, store: string, key?: string}} Told */

/** Events that the next frame draws. @type {Told[]} */
const drawn = [];
/** The number of events that the page has measured. */
let measured = 0;

/** Events that the page has received while it was hidden. The page reports them when it becomes visible. @type {Map<string, Told>} */
const unseen = new Map();

/** Events of open orders that have no card yet, by the key of the order. @type {Map<string, Told[]>} */
const withoutCard = new Map();
/** Whether the board has a card for a key; {@link setUpRendered} sets this function. @type {(key: string) => boolean} */
let hasCard = () => true;

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  unseen.forEach(tell);
  unseen.clear();
});

/** @param {(key: string) => boolean} look whether the board has a card for a key */
export function setUpRendered(look) {
  hasCard = look;
}

/** Reports an event after the next paint. If the page is hidden, reports the event when the page becomes visible. @param {Told} told */
export function proveRendered(told) {
  if (document.hidden) return unseen.set(`${told.store}/${told.id}`, told);
  if (drawn.push(told) > 1) return;
  requestAnimationFrame(() => {
    const painted = drawn.splice(0);
    setTimeout(() => painted.forEach(report));
  });
}

/** Reports the events of an order that the page now shows. @param {string} key */
export function proveShown(key) {
  withoutCard.get(key)?.forEach(({ id, store }) => proveRendered({ id, store }));
  withoutCard.delete(key);
}

/** Whether the page shows what an event is about. If it does not, remembers the event for {@link proveShown}. @param {Told} told */
function isOnScreen(told) {
  const { key } = told;
  if (!key || hasCard(key)) return true;
  if (!items.has(key)) {
    // The order is closed. The page shows this event outside the board, and never shows the order's earlier events.
    withoutCard.delete(key);
    return true;
  }
  const waiting = withoutCard.get(key) ?? [];
  if (!waiting.some(({ id }) => id === told.id)) withoutCard.set(key, [...waiting, told]);
  return false;
}

/** @param {Told} told */
function tell(told) {
  if (isOnScreen(told)) connectionOf(told.store)?.rendered(told.id);
}

/** Reports an event, and measures the time from its arrival to the paint of its card or of the column's number. @param {Told} told */
function report(told) {
  tell(told);
  const { id } = told;
  const mark = `vestnik:received:${id}`;
  const began = performance.getEntriesByName(mark, "mark").at(-1);
  performance.clearMarks(mark);
  if (!began) return;
  // Delete old measures, because a shift makes thousands of them.
  if ((measured += 1) % MEASURES === 0) performance.clearMeasures();
  performance.measure(`vestnik:painted:${id}`, { start: began.startTime, end: performance.now() });
}
