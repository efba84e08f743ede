/** Does once what was asked for several times before the next frame; where the page is hidden it has no frames, and does it at once. @module frame */

/** What was asked for, in that order. @type {Set<() => void>} */
const asked = new Set();
let isDue = false;

document.addEventListener("visibilitychange", () => document.hidden && run());

/** What is asked for meanwhile is done, too: a frame of its own would cost as much as this one. */
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
 * @returns {() => void} asks for it
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
