/** The minutes until an order is ready: a person's choice, or the usual minutes for its type. @module minutes */

import { dueAt, now } from "./facts.js";
import { button, h } from "./dom.js";
import { t } from "./i18n.js";
import { USUAL_MINUTES, settings } from "./settings.js";

const STEP = 5;
/** The most minutes that the server accepts. */
const MOST = 600;
const MINUTE_MS = 60_000;

/** The minutes that a person has chosen, by order key. @type {Map<string, number>} */
const chosen = new Map();

/** The usual minutes for the type of an order. @param {import("./orders.js").Item} item */
const usualFor = (item) => settings.minutes[item.order_type] ?? USUAL_MINUTES;

/** Whether an accepted order must not be cooked yet, because the customer wants it later. @param {import("./orders.js").Item} item */
export function isLater(item) {
  if (item.kind !== "orders" || item.status !== "preparing" || !item.due_at) return false;
  return Date.parse(item.due_at) - usualFor(item) * MINUTE_MS > now();
}

/** The minutes to promise, if a person has chosen none. @param {import("./orders.js").Item} item */
function usual(item) {
  const minutes = usualFor(item);
  const due = dueAt(item);
  // The promised time must not be before the time that the customer wants.
  return due === null ? minutes : Math.max(minutes, Math.ceil((due - now()) / MINUTE_MS));
}

/** The minutes that a person promises by accepting an order, at most {@link MOST}. @param {import("./orders.js").Item} item */
export const minutesFor = (item) => Math.min(MOST, chosen.get(item.key) ?? usual(item));

/** Deletes the minutes that were chosen for an order. @param {string} key */
export const forgetMinutes = (key) => chosen.delete(key);

/**
 * The buttons that add or subtract five minutes.
 * @param {import("./orders.js").Item} item
 * @param {() => void} changed
 */
export function stepper(item, changed) {
  const shown = h("output", { class: "step-value", text: t("order.minutes", { n: minutesFor(item) }) });
  const step = (by) => {
    const most = Math.floor(MOST / STEP) * STEP;
    const next = Math.min(most, Math.max(STEP, Math.round((minutesFor(item) + by) / STEP) * STEP));
    chosen.set(item.key, next);
    shown.textContent = t("order.minutes", { n: next });
    changed();
  };
  return h(
    "div",
    { class: "stepper", role: "group", "aria-label": t("order.readyIn") },
    button("step-less", "minus", "", () => step(-STEP), { "aria-label": t("order.less", { n: STEP }) }),
    shown,
    button("step-more", "plus", "", () => step(STEP), { "aria-label": t("order.more", { n: STEP }) }),
  );
}
