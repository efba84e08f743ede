/**
 * Records which orders this device has printed, and prints new orders automatically. A setting says whether an order
 * is printed when it arrives or when a person accepts it on any panel. Orders that came while the page was closed are
 * printed when the page opens again.
 *
 * @module autoprint
 */

import { now } from "./facts.js";
import { items } from "./orders.js";
import { read, settings, write } from "./settings.js";
import { isOwn } from "./stations.js";

const PRINTS = "vestnik.prints";
/** The most orders whose print result the device keeps. */
const MOST = 400;

/** @typedef {import("./orders.js").Item} Item */
/**
 * @typedef {{state: "waits"|"printed"|"failed", at: number, why?: string, isRepeat?: boolean}} Print at: milliseconds; isRepeat: the order was printed before; why: a key under `print.why` in the files in lang/
 */

/** The print result of each order, by order key. Tickets that waited when the page was closed are not in this map. @type {Map<string, Print>} */
const prints = new Map();
for (const [key, print] of read("localStorage", PRINTS) ?? []) {
  if (print.state !== "waits") prints.set(key, print);
  else if (print.isRepeat) prints.set(key, { ...print, state: "printed" });
}

/** The print result of an order; undefined if this device has none. @param {string} key */
export const printOf = (key) => prints.get(key);

/** The open orders whose print has failed. @returns {[Item, Print][]} */
export const failedPrints = () => [...prints].flatMap(([key, print]) => (print.state === "failed" && items.has(key) ? [[items.get(key), print]] : []));

/** Saves the print result of an order. @param {string} key @param {Print["state"]} state @param {string} [why] */
export function setPrint(key, state, why) {
  const before = prints.get(key);
  const isRepeat = before?.state === "printed" || before?.isRepeat;
  prints.delete(key);
  prints.set(key, { state, at: now(), why, isRepeat });
  if (prints.size > MOST) prints.delete(prints.keys().next().value);
  write("localStorage", PRINTS, [...prints]);
  document.dispatchEvent(new CustomEvent("vestnik:print", { detail: key }));
}

/** Deletes all print results. Called when a person removes the key from this device. */
export function forgetPrints() {
  prints.clear();
  write("localStorage", PRINTS, null);
}

/** Prints an order, if automatic printing is on and the order has no print result. @param {Item} item */
export function printIfDue(item) {
  if (!settings.autoPrint || item.kind !== "orders" || prints.has(item.key) || !isOwn(item)) return;
  const isAccepted = item.status === "preparing";
  const came = settings.autoPrint === "accept" ? isAccepted && (item.stands ?? item.since) : (isAccepted || item.status === "pending") && item.since;
  if (came && came >= settings.printSince) print(item, true);
}

/** Puts the ticket of an order into the print queue. @param {Item} item @param {boolean} [isUnasked] whether the print is automatic */
export async function print(item, isUnasked = false) {
  setPrint(item.key, "waits");
  const { enqueue } = await import("./printing.js");
  enqueue(item, isUnasked);
}
