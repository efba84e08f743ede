/** Short messages, one below the other: what no card says. @module toast */

import { byId, button, h, icon } from "./dom.js";
import { t } from "./i18n.js";

/** Toasts at once; the oldest goes. */
const MOST = 3;
const STAYS_MS = 7_000;

/**
 * @param {string} text
 * @param {{kind?: "info"|"problem", detail?: string, sign?: any, about?: string, action?: [string, () => void], stays?: boolean}} [options]
 *   about: names what it is about; a later one about the same takes its place
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

/** What it said is no longer so. @param {string} about */
export function dropToast(about) {
  byId("toasts").querySelectorAll(".toast").forEach((item) => item.dataset.about === about && item.remove());
}

let turn = 0;
/** Says something to who listens to the page. @param {string} text */
export function announce(text) {
  // Two places in turn: the same words twice in one place are not read again.
  turn = 1 - turn;
  byId(`announcer-${turn}`).textContent = text;
  byId(`announcer-${1 - turn}`).textContent = "";
}
