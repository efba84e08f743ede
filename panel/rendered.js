/** Says to the server what stands on the screen, once the browser has painted it. @module rendered */

import { connectionOf } from "./connection.js";

/** Measures that are kept for who looks how quick it is. */
const MEASURES = 1_000;

/** @typedef {{id: string, store_id: string}} Told */

/** Events that stand on a screen which nobody can see. @type {Map<string, Told>} */
const unseen = new Map();

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  unseen.forEach(({ id, store_id: store }) => connectionOf(store)?.rendered(id));
  unseen.clear();
});

/** It stands on the screen when the browser has painted; a hidden page has no screen. @param {Told} event */
export function proveRendered({ id, store_id: store }) {
  if (document.hidden) return unseen.set(`${store}/${id}`, { id, store_id: store });
  requestAnimationFrame(() =>
    setTimeout(() => {
      connectionOf(store)?.rendered(id);
      const began = performance.getEntriesByName(`vestnik:received:${id}`, "mark").at(-1);
      if (began) performance.measure(`vestnik:painted:${id}`, { start: began.startTime, end: performance.now() });
      performance.clearMarks(`vestnik:received:${id}`);
      // An evening has thousands of them.
      if (performance.getEntriesByType("measure").length > MEASURES) performance.clearMeasures();
    }),
  );
}
