/** Reports to the server that an event is on the screen, after the browser has painted it. @module rendered */

import { connectionOf } from "./connection.js";

/** After this many events, the page deletes its performance measures. */
const MEASURES = 1_000;

/** @typedef {{id: string, store_id: string}} Told */

/** Events that the next frame draws. @type {Told[]} */
const drawn = [];
/** The number of events that the page has measured. */
let measured = 0;

/** Events that the page has received while it was hidden. The page reports them when it becomes visible. @type {Map<string, Told>} */
const unseen = new Map();

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  unseen.forEach(({ id, store_id: store }) => connectionOf(store)?.rendered(id));
  unseen.clear();
});

/** Reports an event after the next paint. If the page is hidden, reports the event when the page becomes visible. @param {Told} event */
export function proveRendered({ id, store_id }) {
  if (document.hidden) return unseen.set(`${store_id}/${id}`, { id, store_id });
  if (drawn.push({ id, store_id }) > 1) return;
  requestAnimationFrame(() => {
    const painted = drawn.splice(0);
    setTimeout(() => painted.forEach(report));
  });
}

/** @param {Told} event */
function report({ id, store_id: store }) {
  connectionOf(store)?.rendered(id);
  const mark = `vestnik:received:${id}`;
  const began = performance.getEntriesByName(mark, "mark").at(-1);
  performance.clearMarks(mark);
  if (!began) return;
  // Delete old measures, because a shift makes thousands of them.
  if ((measured += 1) % MEASURES === 0) performance.clearMeasures();
  performance.measure(`vestnik:painted:${id}`, { start: began.startTime, end: performance.now() });
}
