/** The board: open orders or bookings, in columns by status. A narrow screen shows one column at a time. @module board */

import { age, card } from "./card.js";
import { Column } from "./column.js";
import { h, mark } from "./dom.js";
import { oncePerFrame } from "./frame.js";
import { t } from "./i18n.js";
import { isLater } from "./minutes.js";
import { items } from "./orders.js";
import { proveShown } from "./rendered.js";
import { isShown } from "./stations.js";
import { moving, still } from "./presslock.js";
import { pressed } from "./actions.js";

/** How often the clocks on the visible cards are updated. */
const CLOCK_MS = 1_000;
/** How long a card stays visible after another person or the shop has moved or closed its order. */
const LEAVING_MS = 700;
/** After this time, the board removes the card in a frame of its own. Before that, it removes the card together with another change: each frame costs much. */
const LEFT_MS = 1_000;

/** @typedef {import("./orders.js").Item} Item */

/** @type {Record<import("./orders.js").Kind, {name: string, statuses: string[]}[]>} */
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

/** The name of the column of an order or booking: its status, or `later` for an order that must not be cooked yet. @param {Item} item */
const placeOf = (item) => (isLater(item) ? "later" : item.status);

/** The first card from `card` on that is not leaving its column. @param {Element|null} card @returns {HTMLElement|null} */
function staying(card) {
  while (card && /** @type {HTMLElement} */ (card).dataset.leaving !== undefined) card = card.nextElementSibling;
  return /** @type {HTMLElement|null} */ (card);
}

/** Whether the screen has room for all columns; panel.css uses the same width. */
const hasRoom = matchMedia("(min-width: 900px)");

export class Board {
  /** @type {Map<string, HTMLElement>} */
  #cards = new Map();
  /** @type {Column[]} */
  #columns = [];
  /** The column of each status. @type {Map<string, Column>} */
  #places = new Map();
  /** Keys of the visible cards. @type {Set<string>} */
  inSight = new Set();
  /** Cards whose order has left the column. They stay visible for a moment. @type {Set<HTMLElement>} */
  #leaving = new Set();
  /** Leaving cards that were visible for `LEAVING_MS`; the next update removes them. @type {Set<HTMLElement>} */
  #left = new Set();
  /** Cards that may move, because the board has added or removed a card before them. @type {Set<Element>} */
  #behind = new Set();
  #removeLeft = oncePerFrame(() => this.#left.size && this.update([]));
  #eye = new IntersectionObserver((seen) => this.#look(seen));
  #root;
  #kind;
  #open;
  #onSight;

  /**
   * @param {HTMLElement} root
   * @param {import("./orders.js").Kind} kind
   * @param {(key: string, focus?: string) => void} open
   * @param {() => void} onSight called when a card becomes visible or invisible
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

  /** Draws the whole board again. */
  render() {
    const shown = this.#root.dataset.shown ?? "pending";
    const tabs = h("div", { class: "tabs", role: "group", "aria-label": t("board.columns") });
    const columns = h("div", { class: "columns" });
    this.#eye.disconnect();
    [this.inSight, this.#cards, this.#places, this.#leaving, this.#left].forEach((known) => known.clear());
    const shownItems = [...items.values()].filter((item) => item.kind === this.#kind && isShown(item));
    this.#columns = COLUMNS[this.#kind].map(({ name, statuses }) => {
      const column = new Column(this.#kind, name, { show: () => this.show(name), grow: () => this.#grow(column) });
      column.putAll(shownItems.filter((item) => statuses.includes(placeOf(item))));
      statuses.forEach((status) => this.#places.set(status, column));
      tabs.append(column.tab);
      columns.append(column.element);
      this.#fill(column);
      return column;
    });
    this.#root.replaceChildren(tabs, columns, h("div", { class: "board-calm", id: `calm-${this.#kind}` }));
    this.show(shown);
    this.#setCounts();
  }

  /** @param {string} key */
  hasCard(key) {
    return this.#cards.has(key);
  }

  /** Shows one column, if the screen is narrow. @param {string} name */
  show(name) {
    this.#root.dataset.shown = name;
    this.#root.querySelectorAll(".tab").forEach((tab) => tab.setAttribute("aria-pressed", String(tab.dataset.tab === name)));
    this.#onSight();
  }

  /** Whether a person can see the column of new orders or bookings. */
  showsNew() {
    return document.body.dataset.view === this.#kind && (hasRoom.matches || this.#root.dataset.shown === "pending");
  }

  /**
   * Draws changed orders or bookings again, in one animation. The board measures the positions of the cards only
   * twice: before all changes and after them.
   * @param {[string, boolean][]} changes the key, and whether a person pressed a button for it on this page
   */
  update(changes) {
    const isOurs = new Map(changes);
    this.#behind.clear();
    const isAllOurs = changes.every(([, isOurs]) => isOurs);
    moving(this.#seen(), isAllOurs, () => {
      const focused = /** @type {HTMLElement|null} */ (document.activeElement?.closest(".card"))?.dataset.key;
      this.#left.forEach((card) => this.#remove(card));
      this.#left.clear();
      // Remove all changed entries first: `put` needs a sorted column, and a changed entry may be at a wrong position.
      for (const key of isOurs.keys()) this.#columns.forEach((column) => column.take(key));
      changes.forEach(([key, isOurs]) => this.#place(key, isOurs));
      this.#columns.forEach((column) => this.#fill(column, isOurs));
      if (isOurs.has(focused)) this.#cards.get(focused)?.querySelector(".card-open")?.focus({ preventScroll: true });
      return this.#setCounts() ? this.#seen() : this.#seenBehind();
    });
  }

  /** The visible cards that may move because the board adds or removes a card before them. */
  #seenBehind() {
    const lists = new Set([...this.#behind].map((card) => card.parentElement).filter(Boolean));
    return [...lists].flatMap((list) => {
      const cards = /** @type {HTMLElement[]} */ ([...list.children]);
      return cards.slice(cards.findIndex((card) => this.#behind.has(card))).filter((card) => this.inSight.has(card.dataset.key));
    });
  }

  /** Removes a card from the page. @param {HTMLElement} card */
  #remove(card) {
    const next = card.nextElementSibling;
    if (next) this.#behind.add(next);
    this.#behind.delete(card);
    this.#leaving.delete(card);
    this.#eye.unobserve(card);
    card.remove();
  }

  /** Moves an order or booking to its current column, and removes its old card. @param {string} key @param {boolean} isOurs */
  #place(key, isOurs) {
    const item = items.get(key);
    const column = item?.kind === this.#kind && isShown(item) ? this.#places.get(placeOf(item)) : undefined;
    column?.put(item);
    const old = this.#cards.get(key);
    if (!old) return;
    this.#cards.delete(key);
    if (old.parentElement === column?.list) this.#remove(old);
    else this.#leave(old, isOurs);
  }

  /**
   * Shows the cards that a column has room for, in the order of the column.
   * @param {Column} column
   * @param {Map<string, boolean>} [isOurs] the changed keys, and whether a person pressed a button for each on this page
   */
  #fill(column, isOurs) {
    let next = staying(column.list.firstElementChild);
    for (const item of column.made()) {
      const made = this.#cards.get(item.key) ?? this.#make(item, isOurs?.get(item.key));
      if (made === next) {
        next = staying(next.nextElementSibling);
        continue;
      }
      if (next) this.#behind.add(next);
      column.list.insertBefore(made, next);
    }
    // Remove the remaining cards, because the column has no room for them.
    while (next) {
      const gone = next;
      next = staying(gone.nextElementSibling);
      this.#cards.delete(gone.dataset.key);
      this.inSight.delete(gone.dataset.key);
      this.#eye.unobserve(gone);
      gone.remove();
    }
  }

  /** Shows more cards of a column. @param {Column} column */
  #grow(column) {
    this.#fill(column);
    this.#setCounts();
  }

  /** Removes a card: at once if a person pressed a button on this page, otherwise after `LEAVING_MS`. */
  #leave(old, atOnce) {
    const wasSeen = this.inSight.delete(old.dataset.key);
    if (atOnce || !wasSeen || document.hidden) return this.#remove(old);
    this.#eye.unobserve(old);
    old.inert = true;
    old.dataset.leaving = "";
    delete old.dataset.key;
    this.#leaving.add(old);
    setTimeout(() => this.#leaving.has(old) && this.#left.add(old), LEAVING_MS);
    setTimeout(this.#removeLeft, LEFT_MS);
  }

  /** Scrolls to the card of this key, and sets the focus to it. @param {string} key */
  reveal(key) {
    const column = this.#columns.find((column) => column.indexOf(key) >= 0);
    if (!column) return;
    this.show(column.name);
    column.makeRoomFor(key);
    this.#grow(column);
    const made = this.#cards.get(key);
    made.scrollIntoView({ block: "center", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    made.querySelector(".card-open").focus({ preventScroll: true });
  }

  #make(item, isOurs = true) {
    const made = card(item, this.#open);
    if (!isOurs) still(made);
    this.#cards.set(item.key, made);
    this.#eye.observe(made);
    proveShown(item.key);
    return made;
  }

  /** The visible cards. */
  #seen() {
    return [...this.inSight].map((key) => this.#cards.get(key)).filter(Boolean);
  }

  /** Shows how many entries each column has. @returns {boolean} whether a column has become empty, or is no longer empty */
  #setCounts() {
    const isOther = this.#columns.filter((column) => column.setCount()).length > 0;
    mark(this.#root, "empty", String(this.#columns.every(({ list }) => !list.firstElementChild)));
    const shown = this.#root.dataset.shown;
    if (shown === "later" && this.#places.get(shown)?.all.length === 0) this.show("pending");
    return isOther;
  }

  /** Updates the set of visible cards. @param {IntersectionObserverEntry[]} seen */
  #look(seen) {
    let isOther = false;
    for (const { target, isIntersecting } of seen) {
      const key = /** @type {HTMLElement} */ (target).dataset.key;
      if (this.#cards.get(key) !== target) continue;
      isOther ||= this.inSight.has(key) !== isIntersecting;
      if (isIntersecting) this.inSight.add(key);
      else this.inSight.delete(key);
      const item = items.get(key);
      if (!isIntersecting || !item) continue;
      age(/** @type {HTMLElement} */ (target), item);
      const column = this.#columns.find(({ list }) => list === target.parentElement);
      if (column?.sees(key)) this.#grow(column);
    }
    if (isOther) this.#onSight();
  }

  /** Moves an order out of the column `later` when the kitchen must start to cook it, and alerts the kitchen. */
  #callLater() {
    for (const item of [...(this.#places.get("later")?.all ?? [])]) {
      if (isLater(item)) continue;
      this.update([[item.key, false]]);
      document.dispatchEvent(new CustomEvent("vestnik:cook", { detail: item.key }));
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
