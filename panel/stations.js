/**
 * Stations of the kitchen: a screen can show, count and ring for the dishes of its own only. Nothing is lost by that: a dish without
 * a station is everybody's, and so is an order that nobody has answered in time.
 *
 * @module stations
 */

import { isLookedAt } from "./connection.js";
import { settings } from "./settings.js";

/** Orders that nobody has answered in time. @type {Set<string>} */
const everybodys = new Set();
/** Somebody looks at the other stations' orders, too. */
let looksAtAll = false;

/** @typedef {import("./orders.js").Item} Item */

/** Whether this screen is that of some stations. */
export const isOfStations = () => settings.stations.length > 0;

/** Whether a dish is made here. @param {import("./orders.js").Line} line */
export const isOwnLine = ({ category }) => !isOfStations() || !category || settings.stations.includes(category);

/** Whether this screen rings for it: it has a dish of this station, or nobody can say that it has none. @param {Item} item */
export function isOwn(item) {
  if (!isOfStations() || item.kind !== "orders") return true;
  if (item.status === "pending" && everybodys.has(item.key)) return true;
  return !item.items?.length || Boolean(item.items_omitted) || item.items.some(isOwnLine);
}

/** Whether it stands on the board: what rings does, whatever store is looked at. @param {Item} item */
export const isShown = (item) => (looksAtAll || isOwn(item)) && (isLookedAt(item) || item.status === "pending" || Boolean(item.marks?.length));

/** The dishes that a card lists, and the others. @param {Item} item */
export function dishesOf({ items: lines = [] }) {
  const numbered = lines.map((line, number) => ({ line, number }));
  const own = numbered.filter(({ line }) => isOwnLine(line));
  if (looksAtAll || !own.length) return { own: numbered, others: [] };
  return { own, others: numbered.filter(({ line }) => !isOwnLine(line)) };
}

/** The others' dishes, each named once. @param {ReturnType<typeof dishesOf>["others"]} others */
export function namesOf(others) {
  /** @type {Map<string, number>} */
  const counts = new Map();
  others.forEach(({ line: { name, quantity } }) => counts.set(name, (counts.get(name) ?? 0) + (Number(quantity) || 1)));
  return [...counts].map(([name, many]) => (many === 1 ? name : `${many}× ${name}`)).join(", ");
}

/** Nobody has answered it in time. @param {Item} item @returns {boolean} whether it comes to this screen by that */
export function giveToEverybody(item) {
  if (isOwn(item)) return false;
  everybodys.add(item.key);
  return true;
}

/** Somebody has answered it. @param {string} key */
export const takeFromEverybody = (key) => everybodys.delete(key);

/** Shows the others' orders, too, or no longer; it rings for its own all the same. */
export const lookAtAll = (all = !looksAtAll) => (looksAtAll = all);

export const isLookingAtAll = () => looksAtAll;
