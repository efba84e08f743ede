/**
 * Stations of the kitchen, such as an oven or a bar. A screen can show, count and ring for only the dishes of its own
 * stations. No order is lost: a dish without a station belongs to all screens. An order that nobody has answered in
 * time also belongs to all screens.
 *
 * @module stations
 */

import { isLookedAt } from "./connection.js";
import { settings } from "./settings.js";

/** Keys of orders that nobody has answered in time, and that now belong to all screens. @type {Set<string>} */
const everybodys = new Set();
/** Whether a person has chosen to see the orders of other stations too. */
let looksAtAll = false;

/** @typedef {import("./orders.js").Item} Item */

/** Whether this screen shows only some stations. */
export const isOfStations = () => settings.stations.length > 0;

/** Whether a dish belongs to a station of this screen. @param {import("./orders.js").Line} line */
export const isOwnLine = ({ category }) => !isOfStations() || !category || settings.stations.includes(category);

/** Whether this screen rings for an order: it has a dish of this screen's stations, or not all of its dishes are known. @param {Item} item */
export function isOwn(item) {
  if (!isOfStations() || item.kind !== "orders") return true;
  if (item.status === "pending" && everybodys.has(item.key)) return true;
  return !item.items?.length || Boolean(item.items_omitted) || item.items.some(isOwnLine);
}

/** Whether the board shows an order or booking. A pending or changed order or booking is shown even if another store is selected in the panel. @param {Item} item */
export const isShown = (item) => (looksAtAll || isOwn(item)) && (isLookedAt(item) || item.status === "pending" || Boolean(item.marks?.length));

/** Splits the dishes of an order into those that a card of this screen lists, and the dishes of other stations. @param {Item} item */
export function dishesOf({ items: lines = [] }) {
  const numbered = lines.map((line, number) => ({ line, number }));
  const own = numbered.filter(({ line }) => isOwnLine(line));
  if (looksAtAll || !own.length) return { own: numbered, others: [] };
  return { own, others: numbered.filter(({ line }) => !isOwnLine(line)) };
}

/** The dishes of other stations as text. Each dish is named once. @param {ReturnType<typeof dishesOf>["others"]} others */
export function namesOf(others) {
  /** @type {Map<string, number>} */
  const counts = new Map();
  others.forEach(({ line: { name, quantity } }) => counts.set(name, (counts.get(name) ?? 0) + (Number(quantity) || 1)));
  return [...counts].map(([name, many]) => (many === 1 ? name : `${many}× ${name}`)).join(", ");
}

/** Makes an order that nobody has answered in time belong to all screens. @param {Item} item @returns {boolean} false if the order belonged to this screen already */
export function giveToEverybody(item) {
  if (isOwn(item)) return false;
  everybodys.add(item.key);
  return true;
}

/** Makes an order belong to its own stations only, after a person has answered it. @param {string} key */
export const takeFromEverybody = (key) => everybodys.delete(key);

/** Shows or hides the orders of other stations. The screen rings for its own stations only, in both cases. */
export const lookAtAll = (all = !looksAtAll) => (looksAtAll = all);

export const isLookingAtAll = () => looksAtAll;
