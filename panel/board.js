/** The board: what is open, in columns by status; one column at a time where there is no room. @module board */

import { age, card } from "./card.js";
import { h } from "./dom.js";
import { dueAt } from "./facts.js";
import { t } from "./i18n.js";
import { isLater } from "./minutes.js";
import { byAge, items } from "./orders.js";
import { isShown } from "./stations.js";
import { moving, still } from "./still.js";
import { pressed } from "./actions.js";

/** How often the clocks on the cards in sight are set. */
const CLOCK_MS = 1_000;
/** A card that somebody else took away is seen for so long. */
const LEAVING_MS = 700;

/** @typedef {{name: string, statuses: string[]}} Column */
/** @typedef {import("./orders.js").Item} Item */

/** @type {Record<import("./orders.js").Kind, Column[]>} */
const COLUMNS = {
  orders: [
    { name: "pending", statuses: ["pending"] },
    { name: "later", statuses: ["later"] },
    { name: "preparing", statuses: ["preparing"] },
    { name: "ready", statuses: ["ready"] },
    { name: "delivering", statuses: ["delivering"] },
  ],
  bookings: [
    { name: "pending", statuses: ["pending"] },
    { name: "preparing", statuses: ["preparing", "ready"] },
  ],
};

/** New ones by age, the others by when they are due. @param {Item} a @param {Item} b */
function order(a, b) {
  if (a.status === "pending" && a.kind === "orders") return byAge(a, b);
  const [one, other] = [dueAt(a) ?? a.since, dueAt(b) ?? b.since];
  return one - other || byAge(a, b);
}

/** Where it stands: its status, or `later`. @param {Item} item */
const placeOf = (item) => (isLater(item) ? "later" : item.status);

/** Set again, even to the same, it would have the style of every card computed again. @param {HTMLElement} part @param {string} name @param {string} value */
const mark = (part, name, value) => part.dataset[name] !== value && (part.dataset[name] = value);

export class Board {
  /** @type {Map<string, HTMLElement>} */
  #cards = new Map();
  /** @type {Map<string, {list: HTMLElement, counts: HTMLElement[], empty: HTMLElement, column: HTMLElement}>} by status */
  #places = new Map();
  /** Keys of the cards that a person can see. @type {Set<string>} */
  inSight = new Set();
  /** Those that may not stand where they belong now. @type {Set<string>} */
  #changing = new Set();
  /** Cards that are seen leaving. @type {Set<HTMLElement>} */
  #leaving = new Set();
  #eye = new IntersectionObserver((seen) => this.#look(seen));
  #root;
  #kind;
  #open;
  #onSight;

  /**
   * @param {HTMLElement} root
   * @param {import("./orders.js").Kind} kind
   * @param {(key: string, focus?: string) => void} open
   * @param {() => void} onSight called when other cards are in sight
   */
  constructor(root, kind, open, onSight) {
    this.#root = root;
    this.#kind = kind;
    this.#open = open;
    this.#onSight = onSight;
    this.render();
    setInterval(() => this.#clocks(), CLOCK_MS);
    document.addEventListener("visibilitychange", () => this.#clocks());
  }

  /** All of it anew. */
  render() {
    const shown = this.#root.dataset.shown ?? "pending";
    const tabs = h("div", { class: "tabs", role: "group", "aria-label": t("board.columns") });
    const columns = h("div", { class: "columns" });
    this.#eye.disconnect();
    this.inSight.clear();
    this.#cards.clear();
    this.#places.clear();
    this.#leaving.clear();
    for (const { name, statuses } of COLUMNS[this.#kind]) {
      const words = t(`column.${this.#kind}.${name}`);
      const counts = [h("span", { class: "count-of" }), h("span", { class: "count-of" })];
      tabs.append(h("button", { type: "button", class: "tab", data: { tab: name }, on: { click: () => this.show(name) } }, h("span", { text: words }), counts[0]));
      const list = h("div", { class: "cards" });
      const empty = h("p", { class: "empty", text: t(`empty.${this.#kind}.${name}`) });
      // Focusable, so that a keyboard can scroll it.
      const body = h("div", { class: "column-body", tabindex: "0", role: "region", "aria-label": words }, empty, list);
      const column = h("section", { class: "column", data: { column: name } }, h("h2", {}, h("span", { text: words }), counts[1]), body);
      columns.append(column);
      statuses.forEach((status) => this.#places.set(status, { list, counts, empty, column }));
      const all = [...items.values()].filter((item) => item.kind === this.#kind && statuses.includes(placeOf(item)) && isShown(item)).sort(order);
      list.append(...all.map((item) => this.#make(item)));
    }
    this.#root.replaceChildren(tabs, columns, h("div", { class: "board-calm" }));
    this.show(shown);
    this.#setCounts();
  }

  /** Shows a column where there is room for one only. @param {string} name */
  show(name) {
    this.#root.dataset.shown = name;
    this.#root.querySelectorAll(".tab").forEach((tab) => tab.setAttribute("aria-pressed", String(tab.dataset.tab === name)));
    this.#onSight();
  }

  /** Whether the column of new ones is before a person's eyes. */
  showsNew() {
    const column = this.#places.get("pending").column;
    return column.checkVisibility();
  }

  /**
   * What became of some of them. All of it is one movement: where each card stands is asked once before, and once after.
   * @param {[string, boolean][]} changes the key, and whether somebody pressed it here
   */
  update(changes) {
    this.#changing = new Set(changes.map(([key]) => key));
    moving(this.#seen(), () => {
      changes.forEach(([key, isOurs]) => this.#change(key, isOurs));
      this.#setCounts();
    });
  }

  /** @param {string} key @param {boolean} isOurs */
  #change(key, isOurs) {
    this.#changing.delete(key);
    const item = items.get(key);
    const old = this.#cards.get(key);
    const place = item?.kind === this.#kind && isShown(item) ? this.#places.get(placeOf(item)) : undefined;
    const stays = place && old?.parentElement === place.list && old.nextElementSibling === this.#follower(place.list, item, old);
    const hadFocus = old?.contains(document.activeElement);
    if (stays) {
      this.#eye.unobserve(old);
      old.replaceWith(this.#make(item, isOurs));
    } else {
      if (old) this.#leave(old, isOurs || Boolean(place && old.parentElement === place.list));
      if (place) place.list.insertBefore(this.#make(item, isOurs), this.#follower(place.list, item));
    }
    if (hadFocus && place) this.#cards.get(key).querySelector(".card-open")?.focus({ preventScroll: true });
  }

  /** What somebody else took away is seen leaving, where it stood; what was pressed here goes at once. */
  #leave(old, atOnce) {
    this.#eye.unobserve(old);
    this.#cards.delete(old.dataset.key);
    const wasSeen = this.inSight.delete(old.dataset.key);
    if (atOnce || !wasSeen || document.hidden) return old.remove();
    old.inert = true;
    old.dataset.leaving = "";
    delete old.dataset.key;
    this.#leaving.add(old);
    setTimeout(() => {
      this.#leaving.delete(old);
      moving(this.#seen(), () => {
        old.remove();
        this.#setCounts();
      });
    }, LEAVING_MS);
  }

  /** Brings it before a person's eyes. @param {string} key */
  reveal(key) {
    const item = items.get(key);
    const made = this.#cards.get(key);
    if (!item || !made) return;
    this.show(this.#places.get(placeOf(item)).column.dataset.column);
    made.scrollIntoView({ block: "center", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    made.querySelector(".card-open").focus({ preventScroll: true });
  }

  #make(item, isOurs = true) {
    const made = card(item, this.#open);
    if (!isOurs) still(made);
    this.#cards.set(item.key, made);
    this.#eye.observe(made);
    return made;
  }

  /** The card before which it belongs: the first that comes after it, among those that stand where they belong. */
  #follower(list, item, itself = null) {
    const others = [...list.children].filter((card) => card !== itself && items.has(card.dataset.key) && !this.#changing.has(card.dataset.key));
    let [low, high] = [0, others.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (order(items.get(others[middle].dataset.key), item) <= 0) low = middle + 1;
      else high = middle;
    }
    return others[low] ?? null;
  }

  /** The cards in sight. */
  #seen() {
    return [...this.inSight].map((key) => this.#cards.get(key)).filter(Boolean);
  }

  /** How many there are; a column without cards takes little room. */
  #setCounts() {
    let total = 0;
    for (const { list, counts, empty, column } of new Set(this.#places.values())) {
      const there = list.childElementCount;
      const count = there - [...this.#leaving].filter((card) => card.parentElement === list).length;
      counts.forEach((place) => place.textContent !== String(count) && (place.textContent = String(count)));
      if (empty.hidden !== there > 0) empty.hidden = there > 0;
      const tab = /** @type {HTMLElement} */ (this.#root.querySelector(`[data-tab="${column.dataset.column}"]`));
      for (const part of [column, tab]) mark(part, "none", String(count === 0));
      mark(column, "empty", String(there === 0));
      total += there;
    }
    mark(this.#root, "empty", String(total === 0));
    const shown = this.#root.dataset.shown;
    if (shown === "later" && this.#places.get(shown)?.list.children.length === 0) this.show("pending");
  }

  /** @param {IntersectionObserverEntry[]} seen */
  #look(seen) {
    for (const { target, isIntersecting } of seen) {
      const key = /** @type {HTMLElement} */ (target).dataset.key;
      if (this.#cards.get(key) !== target) continue;
      if (isIntersecting) this.inSight.add(key);
      else this.inSight.delete(key);
      const item = items.get(key);
      if (isIntersecting && item) age(/** @type {HTMLElement} */ (target), item);
    }
    this.#onSight();
  }

  /** What was for later is due to be cooked. */
  #callLater() {
    for (const made of this.#places.get("later")?.list.querySelectorAll("[data-key]") ?? []) {
      const { key } = made.dataset;
      if (isLater(items.get(key))) continue;
      this.update([[key, false]]);
      document.dispatchEvent(new CustomEvent("vestnik:cook", { detail: key }));
    }
  }

  #clocks() {
    this.#callLater();
    if (document.hidden) return;
    for (const key of this.inSight) {
      const item = items.get(key);
      const made = this.#cards.get(key);
      if (item && made && !pressed.has(key)) age(made, item);
    }
  }
}
