/** Does once what was asked for several times before the next frame; where the page is hidden it has no frames, and does it at once. @module frame */

/**
 * @param {() => void} work
 * @returns {() => void} asks for it
 */
export function oncePerFrame(work) {
  let isAsked = false;
  const run = () => {
    if (!isAsked) return;
    isAsked = false;
    work();
  };
  document.addEventListener("visibilitychange", () => document.hidden && run());
  return () => {
    if (isAsked) return;
    isAsked = true;
    if (document.hidden) queueMicrotask(run);
    else requestAnimationFrame(run);
  };
}
