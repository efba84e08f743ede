/** Short news, one below the other; said aloud by a screen reader. @module toast */

import { at, button, h, icon } from "./dom.js";
import { say } from "./i18n.js";

/** Toasts at once; the oldest goes. */
const MOST = 4;
const STAYS_MS = 7_000;

/**
 * @param {string} text
 * @param {{kind?: "order"|"booking"|"cancelled"|"info"|"problem", detail?: string, sign?: any, open?: () => void, id?: string}} [options]
 */
export function toast(text, { kind = "info", detail = "", sign = "bell", open, id } = {}) {
  const list = at("toasts");
  const dismiss = () => item.remove();
  const words = h("div", { class: "toast-words" }, h("strong", { text }), detail && h("span", { text: detail }));
  const item = h("li", { class: `toast toast-${kind}`, data: id ? { about: id } : {} }, icon(sign), words);
  if (open) item.append(button("toast-open", null, say("toast.open"), () => (dismiss(), open())));
  item.append(h("button", { type: "button", class: "toast-close", "aria-label": say("toast.close"), on: { click: dismiss } }, icon("cross")));
  list.prepend(item);
  while (list.children.length > MOST) list.lastElementChild.remove();
  setTimeout(dismiss, STAYS_MS);
}

let turn = 0;
/** Says something to who listens to the page. @param {string} text */
export function announce(text) {
  // Two places in turn: the same words twice in one place are not read again.
  turn = 1 - turn;
  at(`announcer-${turn}`).textContent = text;
  at(`announcer-${1 - turn}`).textContent = "";
}
