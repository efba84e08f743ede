/** The stop list: the items that a store cannot sell now, as the server reports them. @module stock */

import { byId, say } from "./dom.js";
import { now } from "./facts.js";
import { live } from "./connection.js";

/** @typedef {{item: string, since: string, until?: string, by?: string}} OutOfStock */

/** The items out of stock, by store and by item name. @type {Map<string, Map<string, OutOfStock>>} */
const stopped = new Map();

/** Loads the stop list of a store. @param {import("./connection.js").Opened} opened */
export async function learnStock({ store, connection }) {
  const known = await connection.api.stopList().catch(() => null);
  if (known) setStock(store, known.items);
}

/** Replaces the stop list of a store. @param {string} store @param {OutOfStock[]} list */
export function setStock(store, list) {
  stopped.set(store, new Map(list.map((one) => [one.item, one])));
  showStock();
}

/** Handles an item that is out of stock, or back in stock. @param {import("./vestnik.js").VestnikEvent} event */
export function handleStock({ type, data, store_id: store }) {
  const list = stopped.get(store) ?? new Map();
  if (type === "item_out_of_stock") list.set(data.item, data);
  else list.delete(data.item);
  setStock(store, [...list.values()]);
}

/** The items that are out of stock in a store now, sorted by name. @param {string} store @returns {OutOfStock[]} */
export function outOfStock(store) {
  /** @param {OutOfStock} one */
  const isNow = ({ until }) => !until || Date.parse(until) > now();
  return [...(stopped.get(store)?.values() ?? [])].filter(isNow).sort((one, other) => one.item.localeCompare(other.item));
}

/** Shows the number of items out of stock, and tells an open dialog that the list has changed. */
export function showStock() {
  const count = String([...live.stores.keys()].flatMap(outOfStock).length || "");
  for (const badge of ["badge-stock", "badge-tools"]) say(byId(badge), count);
  document.dispatchEvent(new CustomEvent("vestnik:stock"));
}
