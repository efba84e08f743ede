/** Counts how many of each dish must be cooked now, over all orders. @module allday */

import { byId, h } from "./dom.js";
import { t } from "./i18n.js";
import { isLookedAt } from "./connection.js";
import { isLater } from "./minutes.js";
import { items } from "./orders.js";
import { settings } from "./settings.js";
import { isLookingAtAll, isOwnLine } from "./stations.js";
import { isTickable, isTicked, lineIds } from "./ticks.js";

/** The shortest time between two counts. */
const COUNT_MS = 250;
/** The most dishes that the list names. */
const MOST = 40;

let timer = 0;
let shown = "";

/** Counts the dishes again after a short delay. */
export function countAllDay() {
  if (!timer) timer = setTimeout(showAllDay, COUNT_MS);
}

/** Shows the counts, if the setting `allDay` is on. */
export function showAllDay() {
  clearTimeout(timer);
  timer = 0;
  byId("all-day-open").setAttribute("aria-pressed", String(settings.allDay));
  const dishes = settings.allDay ? count() : [];
  byId("all-day").hidden = !settings.allDay;
  const shows = document.documentElement.lang + JSON.stringify(dishes) + settings.allDay;
  if (shows === shown) return;
  shown = shows;
  const row = ([name, number]) => h("li", {}, h("b", { text: `${number}×` }), h("span", { text: name }));
  byId("all-day").replaceChildren(...(dishes.length ? dishes.slice(0, MOST).map(row) : [h("li", { class: "quiet-words", text: t("allDay.none") })]));
}

/** The number of each dish that must still be cooked, the largest number first. @returns {[string, number][]} */
function count() {
  /** @type {Map<string, number>} */
  const dishes = new Map();
  for (const item of items.values()) {
    if (!isLookedAt(item) || !isTickable(item) || isLater(item)) continue;
    const ids = lineIds(item);
    (item.items ?? []).forEach((line, number) => {
      if (isTicked(item, ids[number]) || !(isLookingAtAll() || isOwnLine(line))) return;
      const { name, quantity, options } = line;
      const dish = [name, ...(options ?? [])].join(", ");
      dishes.set(dish, (dishes.get(dish) ?? 0) + (Number(quantity) || 1));
    });
  }
  return [...dishes].sort(([one, a], [other, b]) => b - a || one.localeCompare(other));
}
