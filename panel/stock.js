/** The stop list: what the store is out of, as the server says it. @module stock */

import { at } from "./dom.js";
import { now } from "./facts.js";
import { live } from "./live.js";

/** @typedef {{item: string, since: string, until?: string, by?: string}} OutOfStock */

/** By the item's name. @type {Map<string, OutOfStock>} */
const stopped = new Map();

/** Asks for the whole list. */
export async function learnStock() {
  const known = await live.connection?.api.stopList().catch(() => null);
  if (known) setStock(known.items);
}

/** @param {OutOfStock[]} list */
export function setStock(list) {
  stopped.clear();
  list.forEach((one) => stopped.set(one.item, one));
  showStock();
}

/** An item is out of stock, or is there again. @param {import("./vestnik.js").VestnikEvent} event */
export function handleStock({ type, data }) {
  if (type === "item_out_of_stock") stopped.set(data.item, data);
  else stopped.delete(data.item);
  showStock();
}

/** What the store is out of now, by name. @returns {OutOfStock[]} */
export function outOfStock() {
  /** @param {OutOfStock} one */
  const isNow = ({ until }) => !until || Date.parse(until) > now();
  return [...stopped.values()].filter(isNow).sort((one, other) => one.item.localeCompare(other.item));
}

/** How many there are; and where the list is open, that it has changed. */
export function showStock() {
  const count = String(outOfStock().length || "");
  for (const badge of ["badge-stock", "badge-tools"]) if (at(badge).textContent !== count) at(badge).textContent = count;
  document.dispatchEvent(new CustomEvent("vestnik:stock"));
}
