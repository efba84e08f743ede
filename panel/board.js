/** The board: what is open, in columns by status; one column at a time where there is no room. @module board */

import { age, card } from "./card.js";
import { h } from "./dom.js";
import { dueAt } from "./facts.js";
import { say } from "./i18n.js";
import { isLater } from "./minutes.js";
import { byAge, items } from "./orders.js";
import { isShown } from "./stations.js";
import { moving, still } from "./still.js";
import { pressed } from "./work.js";

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

export class Board {
  /** @type {Map<string, HTMLElement>} */
  #cards = new Map();
  /** @type {Map<string, {list: HTMLElement, counts: HTMLElement[], empty: HTMLElement, column: HTMLElement}>} by status */
  #places = new Map();
  /** Keys of the cards that a person can see. @type {Set<string>} */
  inSight = new Set();
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
    const tabs = h("div", { class: "tabs", role: "group", "aria-label": say("board.columns") });
    const columns = h("div", { class: "columns" });
    this.#eye.disconnect();
    this.inSight.clear();
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
      const all = [...items.values()].filter((item) => item.kind === this.#kind && statuses.includes(placeOf(item)) && isShown(item)).sort(order);
      list.append(...all.map((item) => this.#make(item)));
    }
    this.#root.replaceChildren(tabs, columns, h("div", { class: "board-calm" }));
    this.show(shown);
    this.#count();
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

  /** What became of one of them. @param {string} key @param {boolean} isOurs whether somebody pressed it here */
  update(key, isOurs) {
    const item = items.get(key);
    const old = this.#cards.get(key);
    const place = item?.kind === this.#kind && isShown(item) ? this.#places.get(placeOf(item)) : undefined;
    const stays = place && old?.parentElement === place.list && old.nextElementSibling === this.#follower(place.list, item, old);
    const hadFocus = old?.contains(document.activeElement);
    if (stays) this.#replace(old, item, isOurs);
    else this.#move(old, place, item, isOurs);
    if (hadFocus && place) this.#cards.get(key).querySelector(".card-open")?.focus({ preventScroll: true });
    this.#count();
  }

  /** It changed where it stands. */
  #replace(old, item, isOurs) {
    this.#eye.unobserve(old);
    const made = this.#make(item);
    moving(this.#seenBehind(old), () => old.replaceWith(made));
    if (!isOurs) still(made);
  }

  /** It goes, comes, or stands elsewhere now. */
  #move(old, place, item, isOurs) {
    if (old) this.#leave(old, isOurs || Boolean(place && old.parentElement === place.list));
    if (!place) return;
    const made = this.#make(item);
    const follower = this.#follower(place.list, item);
    moving(follower ? this.#seenBehind(follower.previousElementSibling, place.list) : [], () => place.list.insertBefore(made, follower));
    if (!isOurs) still(made);
  }

  /** What somebody else took away is seen leaving, where it stood; what was pressed here goes at once. */
  #leave(old, atOnce) {
    this.#eye.unobserve(old);
    this.#cards.delete(old.dataset.key);
    this.inSight.delete(old.dataset.key);
    const gone = () => moving(this.#seenBehind(old), () => old.remove());
    if (atOnce || !old.checkVisibility()) return gone();
    old.inert = true;
    old.dataset.leaving = "";
    delete old.dataset.key;
    setTimeout(() => {
      gone();
      this.#count();
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

  #make(item) {
    const made = card(item, this.#open);
    this.#cards.set(item.key, made);
    this.#eye.observe(made);
    return made;
  }

  /** The card before which it belongs. Most often it is the last, so the look begins at the end. */
  #follower(list, item, itself = null) {
    let follower = null;
    for (let card = list.lastElementChild; card; card = card.previousElementSibling) {
      const other = items.get(card.dataset.key);
      if (card === itself || !other) continue;
      if (order(other, item) <= 0) break;
      follower = card;
    }
    return follower;
  }

  /** The cards in sight that stand behind one, or all of a list. @param {Element|null} card @param {Element} [list] */
  #seenBehind(card, list = card.parentElement) {
    const seen = [];
    for (let next = card ? card.nextElementSibling : list.firstElementChild; next; next = next.nextElementSibling) {
      if (this.inSight.has(next.dataset.key)) seen.push(next);
    }
    return seen;
  }

  /** How many there are; a column without cards takes little room, and the others move for it. */
  #count() {
    const places = [...new Set(this.#places.values())];
    const folds = places.some(({ list, column }) => column.dataset.empty !== String(list.children.length === 0));
    const seen = folds ? [...this.inSight].map((key) => this.#cards.get(key)).filter(Boolean) : [];
    moving(seen, () => this.#setCounts());
  }

  #setCounts() {
    let total = 0;
    for (const { list, counts, empty, column } of new Set(this.#places.values())) {
      const count = list.querySelectorAll(":scope > [data-key]").length;
      counts.forEach((place) => (place.textContent = String(count)));
      empty.hidden = list.children.length > 0;
      column.dataset.count = String(count);
      column.dataset.empty = String(list.children.length === 0);
      total += list.children.length;
      this.#root.querySelector(`[data-tab="${column.dataset.column}"]`).dataset.count = String(count);
    }
    this.#root.dataset.total = String(total);
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
      this.update(key, false);
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
