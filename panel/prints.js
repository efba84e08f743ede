/**
 * Which orders have been printed on this device, and which have to be: on arrival, or when somebody has accepted them, wherever that
 * was. What came while the page was closed is printed when it is open again.
 *
 * @module prints
 */

import { now } from "./facts.js";
import { items } from "./orders.js";
import { read, settings, write } from "./settings.js";
import { isOwn } from "./stations.js";

const PRINTS = "vestnik.prints";
/** Orders whose printing stays known. */
const MOST = 400;

/** @typedef {import("./orders.js").Item} Item */
/** @typedef {{state: "waits"|"printed"|"failed", at: number, why?: string, isRepeat?: boolean}} Print at: milliseconds; isRepeat: it had been printed before; why: a word below `print.why` */

/** By the order's key. What waited when the page was closed, waits no longer. @type {Map<string, Print>} */
const prints = new Map();
for (const [key, print] of read("localStorage", PRINTS) ?? []) {
  if (print.state !== "waits") prints.set(key, print);
  else if (print.isRepeat) prints.set(key, { ...print, state: "printed" });
}

/** @param {string} key */
export const printOf = (key) => prints.get(key);

/** Those that could not be printed, and are still open. @returns {[Item, Print][]} */
export const failedPrints = () => [...prints].flatMap(([key, print]) => (print.state === "failed" && items.has(key) ? [[items.get(key), print]] : []));

/** @param {string} key @param {Print["state"]} state @param {string} [why] */
export function setPrint(key, state, why) {
  const before = prints.get(key);
  const isRepeat = before?.state === "printed" || before?.isRepeat;
  prints.delete(key);
  prints.set(key, { state, at: now(), why, isRepeat });
  if (prints.size > MOST) prints.delete(prints.keys().next().value);
  write("localStorage", PRINTS, [...prints]);
  document.dispatchEvent(new CustomEvent("vestnik:print", { detail: key }));
}

/** With the device. */
export function forgetPrints() {
  prints.clear();
  write("localStorage", PRINTS, null);
}

/** Prints it where that was chosen, and it has not been. @param {Item} item */
export function printIfDue(item) {
  if (!settings.autoPrint || item.kind !== "orders" || prints.has(item.key) || !isOwn(item)) return;
  const isAccepted = item.status === "preparing";
  const came = settings.autoPrint === "accept" ? isAccepted && (item.stands ?? item.since) : (isAccepted || item.status === "pending") && item.since;
  if (came && came >= settings.printSince) print(item, true);
}

/** @param {Item} item @param {boolean} [isUnasked] whether nobody has pressed anything for it */
export async function print(item, isUnasked = false) {
  setPrint(item.key, "waits");
  const { enqueue } = await import("./printing.js");
  enqueue(item, isUnasked);
}
