/** A list of short messages about changes that no card shows. @module toast */

import { byId, button, h, icon } from "./dom.js";
import { oncePerFrame } from "./frame.js";
import { t } from "./i18n.js";

/** The most messages at once. A new message removes the oldest one. */
const MOST = 3;
const STAYS_MS = 7_000;

/**
 * Shows a short message.
 * @param {string} text
 * @param {{kind?: "info"|"problem", detail?: string, sign?: any, about?: string, action?: [string, () => void], stays?: boolean}} [options]
 *   about: the key of the order or other subject; a later message with the same key replaces this one
 */
export function toast(text, { kind = "info", detail = "", sign = "bell", about = "", action, stays = false } = {}) {
  const list = byId("toasts");
  const dismiss = () => item.remove();
  const words = h("div", { class: "toast-words" }, h("strong", { text }), detail && h("span", { text: detail }));
  const item = h("li", { class: `toast toast-${kind}`, data: { about } }, icon(sign), words);
  if (action) item.append(button("toast-action", null, action[0], () => (dismiss(), action[1]())));
  item.append(h("button", { type: "button", class: "toast-close", "aria-label": t("toast.close"), on: { click: dismiss } }, icon("cross")));
  if (about) dropToast(about);
  list.prepend(item);
  while (list.children.length > MOST) list.lastElementChild.remove();
  if (!stays) setTimeout(dismiss, STAYS_MS);
}

/** Removes the messages about a key, because its order has changed since. @param {string} about */
export function dropToast(about) {
  byId("toasts").querySelectorAll(".toast").forEach((item) => item.dataset.about === about && item.remove());
}

let turn = 0;
let spoken = "";
/** Makes a screen reader read a text aloud. @param {string} text */
export function announce(text) {
  spoken = text;
  speak();
}

// Change the page in the next frame only: a change outside of a frame would cost a layout of its own.
const speak = oncePerFrame(() => {
  // Use two elements in turn: if a text is put into one element twice, a screen reader reads it only once.
  turn = 1 - turn;
  byId(`announcer-${turn}`).textContent = spoken;
  byId(`announcer-${1 - turn}`).textContent = "";
});
