/** Reports to the server that an event is on the screen, after the browser has painted it. @module rendered */

import { connectionOf } from "./connection.js";

/** The most performance measures that the page keeps. */
const MEASURES = 1_000;

/** @typedef {{id: string, store_id: string}} Told */

/** Events that the next frame draws. @type {Told[]} */
const drawn = [];

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
    setTimeout(() => {
      painted.forEach(report);
      // Delete old measures, because a shift makes thousands of them.
      if (performance.getEntriesByType("measure").length > MEASURES) performance.clearMeasures();
    });
  });
}

/** @param {Told} event */
function report({ id, store_id: store }) {
  connectionOf(store)?.rendered(id);
  const mark = `vestnik:received:${id}`;
  const began = performance.getEntriesByName(mark, "mark").at(-1);
  if (began) performance.measure(`vestnik:painted:${id}`, { start: began.startTime, end: performance.now() });
  performance.clearMarks(mark);
}
