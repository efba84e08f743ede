/**
 * Runs a function once in the next animation frame, even if it was requested several times. A hidden page has no
 * frames, so on a hidden page the function runs at once.
 * @module frame
 */

/** The requested functions, in the order of the requests. @type {Set<() => void>} */
const asked = new Set();
let isDue = false;

document.addEventListener("visibilitychange", () => document.hidden && run());

/** Runs the requested functions. If one of them requests another function, runs that function in this frame too: a second frame would cost as much as the first. */
function run() {
  for (const work of asked) {
    asked.delete(work);
    try {
      work();
    } catch (error) {
      reportError(error);
    }
  }
  isDue = false;
}

/**
 * @param {() => void} work
 * @returns {() => void} requests `work` for the next frame
 */
export function oncePerFrame(work) {
  return () => {
    asked.add(work);
    if (isDue) return;
    isDue = true;
    if (document.hidden) queueMicrotask(run);
    else requestAnimationFrame(run);
  };
}
