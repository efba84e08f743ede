/** The dishes that a cook has ticked as done on this device. The ticks of an order last until it leaves the kitchen. @module ticks */

import { items } from "./orders.js";
import { keptKey, read, write } from "./settings.js";

const TICKS = "vestnik.ticks";

/** The ids of the lines that are done, by order key. @type {Map<string, Set<string>>} */
const ticked = new Map(read("sessionStorage", TICKS) ?? read("localStorage", TICKS) ?? []);
ticked.forEach((done, key) => ticked.set(key, new Set(done)));

/** @typedef {import("./orders.js").Item} Item */

/** Whether a cook can tick the dishes of an order: the order is being prepared. @param {Item} item */
export const isTickable = (item) => item.kind === "orders" && item.status === "preparing";

/**
 * The ids of the lines of an order. An id is made from the text of its line, so that a tick stays with its dish if
 * the shop changes the order.
 * @param {Item} item
 * @returns {string[]} one for each line
 */
export function lineIds({ items: lines = [] }) {
  const seen = new Map();
  return lines.map(({ name, quantity, options, note }) => {
    const id = JSON.stringify([name, quantity, options, note]);
    seen.set(id, (seen.get(id) ?? 0) + 1);
    return `${seen.get(id)} ${id}`;
  });
}

/** Whether a cook has ticked a line of an order. @param {Item} item @param {string} id of the line, see {@link lineIds} */
export const isTicked = (item, id) => isTickable(item) && Boolean(ticked.get(item.key)?.has(id));

/** Sets or removes the tick of a line. @param {Item} item @param {string} id of the line @returns {boolean} whether the line is done now */
export function toggleTick(item, id) {
  const done = ticked.get(item.key) ?? new Set();
  if (!done.delete(id)) done.add(id);
  ticked.set(item.key, done);
  save();
  return done.has(id);
}

function save() {
  for (const key of ticked.keys()) if (!items.has(key)) ticked.delete(key);
  const kept = [...ticked].map(([key, done]) => [key, [...done]]);
  const isRemembered = keptKey()?.remembered;
  write("sessionStorage", TICKS, isRemembered ? null : kept);
  write("localStorage", TICKS, isRemembered ? kept : null);
}
