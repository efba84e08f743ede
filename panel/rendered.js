/** Reports to the server that an event is on the screen, after the browser has painted it. @module rendered */

import { connectionOf } from "./connection.js";

/** The most performance measures that the page keeps. */
const MEASURES = 1_000;

/** @typedef {{id: string, store_id: string}} Told */

/** Events that the page has received while it was hidden. The page reports them when it becomes visible. @type {Map<string, Told>} */
const unseen = new Map();

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  unseen.forEach(({ id, store_id: store }) => connectionOf(store)?.rendered(id));
  unseen.clear();
});

/** Reports an event after the next paint. If the page is hidden, reports the event when the page becomes visible. @param {Told} event */
export function proveRendered({ id, store_id: store }) {
  if (document.hidden) return unseen.set(`${store}/${id}`, { id, store_id: store });
  requestAnimationFrame(() =>
    setTimeout(() => {
      connectionOf(store)?.rendered(id);
      const began = performance.getEntriesByName(`vestnik:received:${id}`, "mark").at(-1);
      if (began) performance.measure(`vestnik:painted:${id}`, { start: began.startTime, end: performance.now() });
      performance.clearMarks(`vestnik:received:${id}`);
      // Delete old measures, because a shift makes thousands of them.
      if (performance.getEntriesByType("measure").length > MEASURES) performance.clearMeasures();
    }),
  );
}
