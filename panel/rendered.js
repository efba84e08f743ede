/** Says to the server what stands on the screen, once the browser has painted it. @module rendered */

import { live } from "./live.js";

/** Measures that are kept for who looks how quick it is. */
const MEASURES = 1_000;

/** Events that stand on a screen which nobody can see. @type {Set<string>} */
const unseen = new Set();

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  unseen.forEach((id) => live.connection?.rendered(id));
  unseen.clear();
});

/** It stands on the screen when the browser has painted; a hidden page has no screen. @param {{id: string}} event */
export function proveRendered({ id }) {
  if (document.hidden) return unseen.add(id);
  requestAnimationFrame(() =>
    setTimeout(() => {
      live.connection?.rendered(id);
      const began = performance.getEntriesByName(`vestnik:received:${id}`, "mark").at(-1);
      if (began) performance.measure(`vestnik:painted:${id}`, { start: began.startTime, end: performance.now() });
      performance.clearMarks(`vestnik:received:${id}`);
      // An evening has thousands of them.
      if (performance.getEntriesByType("measure").length > MEASURES) performance.clearMeasures();
    }),
  );
}
