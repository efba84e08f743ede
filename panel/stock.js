/** The stop list: what the store is out of, as the server says it. @module stock */

import { byId } from "./dom.js";
import { now } from "./facts.js";
import { live } from "./connection.js";

/** @typedef {{item: string, since: string, until?: string, by?: string}} OutOfStock */

/** By the store, and by the item's name. @type {Map<string, Map<string, OutOfStock>>} */
const stopped = new Map();

/** Asks for the whole list of a store. @param {import("./connection.js").Opened} opened */
export async function learnStock({ store, connection }) {
  const known = await connection.api.stopList().catch(() => null);
  if (known) setStock(store, known.items);
}

/** @param {string} store @param {OutOfStock[]} list */
export function setStock(store, list) {
  stopped.set(store, new Map(list.map((one) => [one.item, one])));
  showStock();
}

/** An item is out of stock, or is there again. @param {import("./vestnik.js").VestnikEvent} event */
export function handleStock({ type, data, store_id: store }) {
  const list = stopped.get(store) ?? new Map();
  if (type === "item_out_of_stock") list.set(data.item, data);
  else list.delete(data.item);
  setStock(store, [...list.values()]);
}

/** What a store is out of now, by name. @param {string} store @returns {OutOfStock[]} */
export function outOfStock(store) {
  /** @param {OutOfStock} one */
  const isNow = ({ until }) => !until || Date.parse(until) > now();
  return [...(stopped.get(store)?.values() ?? [])].filter(isNow).sort((one, other) => one.item.localeCompare(other.item));
}

/** How many there are; and where the list is open, that it has changed. */
export function showStock() {
  const count = String([...live.stores.keys()].flatMap(outOfStock).length || "");
  for (const badge of ["badge-stock", "badge-tools"]) if (byId(badge).textContent !== count) byId(badge).textContent = count;
  document.dispatchEvent(new CustomEvent("vestnik:stock"));
}
