/** The board: what is open, in columns by status; one column at a time where there is no room. @module board */

import { age, card } from "./card.js";
import { h } from "./dom.js";
import { say } from "./i18n.js";
import { items, open as openItems } from "./orders.js";

/** How often the minutes on the cards are looked at. */
const AGE_MS = 10_000;

/** @typedef {{name: string, statuses: string[]}} Column */

/** @type {Record<import("./orders.js").Kind, Column[]>} */
const COLUMNS = {
  orders: [
    { name: "pending", statuses: ["pending"] },
    { name: "preparing", statuses: ["preparing"] },
    { name: "ready", statuses: ["ready"] },
    { name: "delivering", statuses: ["delivering"] },
  ],
  bookings: [
    { name: "pending", statuses: ["pending"] },
    { name: "preparing", statuses: ["preparing", "ready"] },
  ],
};

export class Board {
  /** @type {Map<string, HTMLElement>} */
  #cards = new Map();
  /** @type {Map<string, {list: HTMLElement, counts: HTMLElement[], empty: HTMLElement, column: HTMLElement}>} by status */
  #places = new Map();
  #root;
  #kind;
  #open;

  /**
   * @param {HTMLElement} root
   * @param {import("./orders.js").Kind} kind
   * @param {(key: string, focus?: string) => void} open
   */
  constructor(root, kind, open) {
    this.#root = root;
    this.#kind = kind;
    this.#open = open;
    this.render();
    setInterval(() => this.#ages(), AGE_MS);
    document.addEventListener("visibilitychange", () => this.#ages());
  }

  /** All of it anew. */
  render() {
    const shown = this.#root.dataset.shown ?? "pending";
    const tabs = h("div", { class: "tabs", role: "group", "aria-label": say("board.columns") });
    const columns = h("div", { class: "columns" });
    this.#cards.clear();
    this.#places.clear();
    for (const { name, statuses } of COLUMNS[this.#kind]) {
      const words = say(`column.${this.#kind}.${name}`);
      const counts = [h("span", { class: "count-of" }), h("span", { class: "count-of" })];
      tabs.append(h("button", { type: "button", class: "tab", data: { tab: name }, on: { click: () => this.show(name) } }, h("span", { text: words }), counts[0]));
      const list = h("div", { class: "cards" });
      const empty = h("p", { class: "empty", text: say(`empty.${this.#kind}.${name}`) });
      // Focusable, so that a keyboard can scroll it.
      const body = h("div", { class: "column-body", tabindex: "0", role: "region", "aria-label": words }, empty, list);
      const column = h("section", { class: "column", data: { column: name } }, h("h2", {}, h("span", { text: words }), counts[1]), body);
      columns.append(column);
      statuses.forEach((status) => this.#places.set(status, { list, counts, empty, column }));
      const all = statuses.flatMap((status) => openItems(this.#kind, status)).sort((a, b) => a.since - b.since);
      list.append(...all.map((item) => this.#make(item)));
    }
    this.#root.replaceChildren(tabs, columns);
    this.show(shown);
    this.#count();
  }

  /** Shows a column where there is room for one only. @param {string} name */
  show(name) {
    this.#root.dataset.shown = name;
    this.#root.querySelectorAll(".tab").forEach((tab) => tab.setAttribute("aria-pressed", String(tab.dataset.tab === name)));
  }

  /** What became of one of them. @param {string} key */
  update(key) {
    const item = items.get(key);
    const old = this.#cards.get(key);
    const place = item?.kind === this.#kind ? this.#places.get(item.status) : undefined;
    if (!place) {
      old?.remove();
      this.#cards.delete(key);
    } else {
      const hadFocus = old?.contains(document.activeElement);
      const made = this.#make(item);
      if (old?.parentElement === place.list) old.replaceWith(made);
      else {
        old?.remove();
        place.list.insertBefore(made, this.#follower(place.list, item));
      }
      if (hadFocus) made.querySelector(".card-open")?.focus({ preventScroll: true });
    }
    this.#count();
  }

  /** Brings it before a person's eyes. @param {string} key */
  reveal(key) {
    const item = items.get(key);
    const made = this.#cards.get(key);
    if (!item || !made) return;
    this.show(this.#places.get(item.status).column.dataset.column);
    made.scrollIntoView({ block: "center", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    made.querySelector(".card-open").focus({ preventScroll: true });
  }

  #make(item) {
    const made = card(item, this.#open);
    this.#cards.set(item.key, made);
    return made;
  }

  /** The card before which it belongs. Most often it is the newest, so the look begins at the end. */
  #follower(list, item) {
    let follower = null;
    for (let card = list.lastElementChild; card; card = card.previousElementSibling) {
      const other = items.get(card.dataset.key);
      if (other && other.since <= item.since) break;
      follower = card;
    }
    return follower;
  }

  #count() {
    for (const { list, counts, empty, column } of new Set(this.#places.values())) {
      const count = list.children.length;
      counts.forEach((place) => (place.textContent = String(count)));
      empty.hidden = count > 0;
      column.dataset.count = String(count);
      this.#root.querySelector(`[data-tab="${column.dataset.column}"]`).dataset.count = String(count);
    }
  }

  #ages() {
    if (document.hidden) return;
    this.#cards.forEach((made, key) => {
      const item = items.get(key);
      if (item) age(made, item);
    });
  }
}
