/**
 * What was pressed while there was no line: it waits, is seen waiting, and is sent when the line is back. It is kept as the key
 * is, on the device or in the tab, so that a reload does not lose it.
 *
 * @module queue
 */

import { button, h, icon } from "./dom.js";
import { t } from "./i18n.js";
import { live } from "./connection.js";
import { keptKey, read, write } from "./settings.js";

const QUEUE = "vestnik.queue";
/** What was pressed longer ago was pressed in another shift. */
const OLD_MS = 12 * 3_600_000;

/** @typedef {{item: import("./orders.js").Item, to: string, more: object}} Waiting item: as it stood when it was pressed */

/** By the order's key: one press for each. @type {Map<string, Waiting & {at: number}>} */
const waiting = new Map();
/** What was pressed in the opened stores before the page was loaded anew. @returns {Waiting[]} */
export function restoreQueue() {
  const kept = read("sessionStorage", QUEUE) ?? read("localStorage", QUEUE);
  (kept ?? []).filter(({ at, item }) => Date.now() - at < OLD_MS && live.stores.has(item.store)).forEach((press) => waiting.set(press.item.key, press));
  return [...waiting.values()];
}

/** @param {Waiting} press */
export function queueUp(press) {
  waiting.set(press.item.key, { ...press, at: Date.now() });
  save();
}

/** @param {string} key */
export const isQueued = (key) => waiting.has(key);

/** @param {string} key */
export function unqueue(key) {
  waiting.delete(key);
  save();
}

/** Those of a store, which wait no longer. @param {string} store */
export function takeQueued(store) {
  const taken = [...waiting.values()].filter(({ item }) => item.store === store);
  taken.forEach(({ item }) => waiting.delete(item.key));
  if (taken.length) save();
  return taken;
}

/** With the end of the shift. */
export function forgetQueue() {
  waiting.clear();
  save();
}

function save() {
  const kept = waiting.size ? [...waiting.values()] : null;
  const isRemembered = keptKey()?.remembered;
  write("sessionStorage", QUEUE, isRemembered ? null : kept);
  write("localStorage", QUEUE, isRemembered ? kept : null);
}

/** Says on a card that it waits. @param {string} key @param {() => void} cancel */
export function queuedRow(key, cancel) {
  return h("p", { class: "card-waits" }, icon("clock"), h("span", { text: t("work.queued") }), button("quiet", null, t("work.unqueue"), cancel));
}
