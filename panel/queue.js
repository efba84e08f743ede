/** What was pressed while there was no line: it waits, is seen waiting, and is sent when the line is back. @module queue */

import { button, h, icon } from "./dom.js";
import { say } from "./i18n.js";

/** @typedef {{item: import("./orders.js").Item, to: string, more: object}} Waiting item: as it stood when it was pressed */

/** By the order's key: one press for each. @type {Map<string, Waiting>} */
const waiting = new Map();

/** @param {Waiting} press */
export const queueUp = (press) => waiting.set(press.item.key, press);

/** @param {string} key */
export const isQueued = (key) => waiting.has(key);

/** @param {string} key */
export const unqueue = (key) => waiting.delete(key);

/** All of them, which wait no longer. */
export function takeQueued() {
  const taken = [...waiting.values()];
  waiting.clear();
  return taken;
}

/** Says on a card that it waits. @param {string} key @param {() => void} cancel */
export function queuedRow(key, cancel) {
  return h("p", { class: "card-waits" }, icon("clock"), h("span", { text: say("work.queued") }), button("quiet", null, say("work.unqueue"), cancel));
}
