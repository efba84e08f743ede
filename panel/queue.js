/**
 * Button presses that wait while the connection is lost. The card of an order shows that its press waits. The page
 * sends the press when the connection is back. Like the key, the queue is saved on the device or in the tab, so that
 * a reload does not lose it.
 *
 * @module queue
 */

import { button, h, icon } from "./dom.js";
import { t } from "./i18n.js";
import { live } from "./connection.js";
import { keptKey, read, write } from "./settings.js";

const QUEUE = "vestnik.queue";
/** The page drops a press that is older than this, because the press belongs to another shift. */
const OLD_MS = 12 * 3_600_000;

/** @typedef {{item: import("./orders.js").Item, to: string, more: object}} Waiting item: the order or booking as it was at the press; to: the requested status */

/** The waiting presses, by key of the order or booking. Each has one press at most. @type {Map<string, Waiting & {at: number}>} */
const waiting = new Map();
/** Restores the waiting presses of the open stores after a reload. @returns {Waiting[]} */
export function restoreQueue() {
  const kept = read("sessionStorage", QUEUE) ?? read("localStorage", QUEUE);
  (kept ?? []).filter(({ at, item }) => Date.now() - at < OLD_MS && live.stores.has(item.store)).forEach((press) => waiting.set(press.item.key, press));
  return [...waiting.values()];
}

/** Adds a press to the queue. It replaces an earlier press for the same order. @param {Waiting} press */
export function queueUp(press) {
  waiting.set(press.item.key, { ...press, at: Date.now() });
  save();
}

/** @param {string} key */
export const isQueued = (key) => waiting.has(key);

/** Removes a press from the queue. @param {string} key */
export function unqueue(key) {
  waiting.delete(key);
  save();
}

/** Takes the waiting presses of a store out of the queue. @param {string} store */
export function takeQueued(store) {
  const taken = [...waiting.values()].filter(({ item }) => item.store === store);
  taken.forEach(({ item }) => waiting.delete(item.key));
  if (taken.length) save();
  return taken;
}

/** Deletes the queue, because the shift ends. */
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

/** The row that says that the press of this card waits. @param {string} key @param {() => void} cancel */
export function queuedRow(key, cancel) {
  return h("p", { class: "card-waits" }, icon("clock"), h("span", { text: t("work.queued") }), button("quiet", null, t("work.unqueue"), cancel));
}
