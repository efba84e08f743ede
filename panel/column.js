/** A column of the board. It sorts its orders or bookings, and makes cards for the first of them. @module column */

import { h, mark, say } from "./dom.js";
import { dueAt } from "./facts.js";
import { t } from "./i18n.js";
import { byAge } from "./orders.js";

/** How many cards a column makes at first, and how many more it adds each time. Each card makes every change slower, even a card outside the screen. */
const ROOM = 20;
/** When one of the last 8 cards becomes visible, the column makes more cards. */
const SPARE = 8;

/** @typedef {import("./orders.js").Item} Item */

/** Sorts new orders by age, and all others by due time. @param {Item} a @param {Item} b */
function order(a, b) {
  if (a.status === "pending" && a.kind === "orders") return byAge(a, b);
  const [one, other] = [dueAt(a) ?? a.since, dueAt(b) ?? b.since];
  return one - other || byAge(a, b);
}

export class Column {
  /** The orders or bookings of this column, sorted. Each entry is as it was when it was added: a later change of its order does not change the entry. @type {Item[]} */
  all = [];
  name;
  element;
  tab;
  list = h("div", { class: "cards" });
  #counts = [h("span", { class: "count-of" }), h("span", { class: "count-of" })];
  #empty;
  #more;
  #moreWords = h("span");
  #room = ROOM;

  /**
   * @param {import("./orders.js").Kind} kind
   * @param {string} name
   * @param {{show: () => void, grow: () => void}} asks show: called when a person presses the tab; grow: called when a person asks for more cards
   */
  constructor(kind, name, { show, grow }) {
    const words = t(`column.${kind}.${name}`);
    this.name = name;
    this.tab = h("button", { type: "button", class: "tab", data: { tab: name }, on: { click: show } }, h("span", { text: words }), this.#counts[0]);
    this.#empty = h("p", { class: "empty", text: t(`empty.${kind}.${name}`) });
    this.#more = h("button", { type: "button", class: "quiet cards-more", on: { click: () => ((this.#room += ROOM), grow()) } }, this.#moreWords);
    // The column can get the focus, so that a person can scroll it with the keyboard.
    const body = h("div", { class: "column-body", tabindex: "0", role: "region", "aria-label": words }, this.#empty, this.list, this.#more);
    this.element = h("section", { class: "column", data: { column: name } }, h("h2", {}, h("span", { text: words }), this.#counts[1]), body);
  }

  /** Replaces all orders or bookings of this column. @param {Item[]} all */
  putAll(all) {
    this.all = all.sort(order);
  }

  /** Inserts an order or booking at its sorted position. @param {Item} item */
  put(item) {
    let [low, high] = [0, this.all.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (order(this.all[middle], item) <= 0) low = middle + 1;
      else high = middle;
    }
    this.all.splice(low, 0, item);
  }

  /** Removes the order or booking of this key from the column. @param {string} key */
  take(key) {
    const at = this.indexOf(key);
    if (at >= 0) this.all.splice(at, 1);
    if (this.all.length <= ROOM) this.#room = ROOM;
  }

  /** The index in {@link Column.all}; -1 if the column does not have this key. @param {string} key */
  indexOf(key) {
    return this.all.findIndex((item) => item.key === key);
  }

  /** The orders or bookings that have a card. */
  made() {
    return this.all.slice(0, this.#room);
  }

  /** Handles a card that becomes visible. @param {string} key @returns {boolean} whether the column must make more cards */
  sees(key) {
    if (this.all.length <= this.#room || this.indexOf(key) < this.#room - SPARE) return false;
    this.#room += ROOM;
    return true;
  }

  /** Makes cards up to the order or booking of this key, and a few more. @param {string} key */
  makeRoomFor(key) {
    this.#room = Math.max(this.#room, this.indexOf(key) + 1 + SPARE);
  }

  /** Shows how many orders or bookings the column has. @returns {boolean} whether the column has become empty, or is no longer empty */
  setCount() {
    const { length } = this.all;
    const hasCards = this.list.childElementCount > 0;
    const isOther = this.#empty.hidden !== hasCards;
    this.#counts.forEach((place) => say(place, String(length)));
    for (const part of [this.element, this.tab]) mark(part, "none", String(length === 0));
    if (isOther) this.#empty.hidden = hasCards;
    mark(this.element, "empty", String(!hasCards));
    const hidden = length - this.#room;
    if (this.#more.hidden !== hidden <= 0) this.#more.hidden = hidden <= 0;
    if (hidden > 0) say(this.#moreWords, t("board.more", { n: hidden }));
    return isOther;
  }
}
