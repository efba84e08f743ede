/**
 * Prevents presses on a button that has just moved. After a movement, a button ignores presses for a moment, unless a
 * press on this page moved it. This module also animates the movements of cards.
 *
 * @module presslock
 */

/** How long a moved button ignores presses. A finger that was already on its way touches the screen before this time ends. */
const STILL_MS = 700;
/** The duration of the animation of a movement. */
const MOVE_MS = 180;
/** If another person or the shop made a change less than this time ago, changes are frequent, and elements move without an animation. */
const RUSH_MS = 400;
let changedAt = -Infinity;

document.addEventListener("click", stopWhileStill, { capture: true });

/** Blocks a press on a button that has just moved. @param {MouseEvent} event */
function stopWhileStill(event) {
  const place = /** @type {HTMLElement|null} */ (event.target instanceof Element ? event.target.closest("[data-still]") : null);
  if (!place || Number(place.dataset.still) < performance.now()) return;
  // Block only the buttons that change an order. A press that opens an order by mistake does no harm.
  if (!/** @type {Element} */ (event.target).closest(".card-actions, .order-foot, .alarm button")) return;
  event.preventDefault();
  event.stopImmediatePropagation();
}

/** Makes the buttons in an element ignore presses for a moment. @param {Element} place */
export function still(place) {
  /** @type {HTMLElement} */ (place).dataset.still = String(performance.now() + STILL_MS);
}

const isCalm = matchMedia("(prefers-reduced-motion: reduce)");

/**
 * Runs a change, and animates the elements that the change moves. The buttons in these elements ignore presses for a
 * moment.
 * @param {Element[]} things the elements that may move
 * @param {boolean} isOurs whether the change comes from a press on this page
 * @param {() => Element[]} change returns the elements that may have moved. During frequent changes their positions are not measured, because a layout costs more than the change
 */
export function moving(things, isOurs, change) {
  const isRush = performance.now() - changedAt < RUSH_MS;
  if (!isOurs) changedAt = performance.now();
  const before = isRush ? [] : things.map((thing) => thing.getBoundingClientRect());
  const moved = change();
  for (const thing of moved) {
    const was = before[things.indexOf(thing)];
    if (!isRush) {
      // The element did not exist before the change, so it has no old position.
      if (!was) continue;
      const after = thing.getBoundingClientRect();
      const [x, y] = [was.left - after.left, was.top - after.top];
      if (Math.abs(x) < 1 && Math.abs(y) < 1) continue;
      if (!isCalm.matches && was.height) thing.animate([{ transform: `translate(${x}px, ${y}px)` }, { transform: "none" }], { duration: MOVE_MS, easing: "ease-out" });
    }
    still(thing);
  }
}
