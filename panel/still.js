/**
 * Nothing changes under a finger: where something moved that nobody here has pressed, its buttons do nothing for a moment.
 * And what moves is seen moving.
 *
 * @module still
 */

/** A finger that was on its way has landed by then. */
const STILL_MS = 700;
/** How long a thing moves. */
const MOVE_MS = 180;
/** Where things moved so short a time ago, many do: what moves then stands at once where it belongs. */
const RUSH_MS = 400;
let movedAt = -Infinity;

document.addEventListener("click", stopWhileStill, { capture: true });

/** @param {MouseEvent} event */
function stopWhileStill(event) {
  const place = /** @type {HTMLElement|null} */ (event.target instanceof Element ? event.target.closest("[data-still]") : null);
  if (!place || Number(place.dataset.still) < performance.now()) return;
  // Whoever looks is not in the way of anybody.
  if (!/** @type {Element} */ (event.target).closest(".card-actions, .order-foot, .alarm button")) return;
  event.preventDefault();
  event.stopImmediatePropagation();
}

/** Its buttons do nothing for a moment. @param {Element} place */
export function still(place) {
  /** @type {HTMLElement} */ (place).dataset.still = String(performance.now() + STILL_MS);
}

const isCalm = matchMedia("(prefers-reduced-motion: reduce)");

/**
 * Changes what stands in some places; what moves by it is seen moving, and its buttons do nothing for a moment.
 * @param {Element[]} things that may move
 * @param {() => Element[]} change gives those of them that may have moved by it. In a rush nothing is measured: a layout each time would cost more than the change
 */
export function moving(things, change) {
  const isRush = performance.now() - movedAt < RUSH_MS;
  const before = isRush ? [] : things.map((thing) => thing.getBoundingClientRect());
  const moved = change();
  for (const thing of moved) {
    const was = before[things.indexOf(thing)];
    if (!isRush) {
      // It was not there before.
      if (!was) continue;
      const after = thing.getBoundingClientRect();
      const [x, y] = [was.left - after.left, was.top - after.top];
      if (Math.abs(x) < 1 && Math.abs(y) < 1) continue;
      if (!isCalm.matches && was.height) thing.animate([{ transform: `translate(${x}px, ${y}px)` }, { transform: "none" }], { duration: MOVE_MS, easing: "ease-out" });
    }
    still(thing);
    movedAt = performance.now();
  }
}
