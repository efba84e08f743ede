/** In how many minutes an order will be ready: chosen for each, from what is usual for its type. @module minutes */

import { dueAt, now } from "./facts.js";
import { button, h } from "./dom.js";
import { t } from "./i18n.js";
import { USUAL_MINUTES, settings } from "./settings.js";

const STEP = 5;
/** What the server takes, minutes. */
const MOST = 600;
const MINUTE_MS = 60_000;

/** What a person has chosen, by the order's key. @type {Map<string, number>} */
const chosen = new Map();

/** @param {import("./orders.js").Item} item */
const usualFor = (item) => settings.minutes[item.order_type] ?? USUAL_MINUTES;

/** Whether an order was accepted for later: it is not time to cook it yet. @param {import("./orders.js").Item} item */
export function isLater(item) {
  if (item.kind !== "orders" || item.status !== "preparing" || !item.due_at) return false;
  return Date.parse(item.due_at) - usualFor(item) * MINUTE_MS > now();
}

/** @param {import("./orders.js").Item} item */
function usual(item) {
  const minutes = usualFor(item);
  const due = dueAt(item);
  // What is wished for later is ready when it is wished.
  return due === null ? minutes : Math.max(minutes, Math.ceil((due - now()) / MINUTE_MS));
}

/** The promise for an order, minutes; more than {@link MOST} cannot be promised. @param {import("./orders.js").Item} item */
export const minutesFor = (item) => Math.min(MOST, chosen.get(item.key) ?? usual(item));

/** Who cares no longer about it. @param {string} key */
export const forgetMinutes = (key) => chosen.delete(key);

/**
 * Five less, five more.
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
