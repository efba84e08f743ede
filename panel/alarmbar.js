/**
 * The strip above the board. It shows orders and bookings that wait for an answer, and cancellations that nobody has
 * noticed. If there are none, the strip shows the clock, the number of orders today, and the state of sound,
 * connection and screen. The strip keeps its height, so that the board does not move when the strip changes.
 *
 * @module alarmbar
 */

import { byId, button, h, icon, mark, say } from "./dom.js";
import { numberOf, signedNumber, typeOf } from "./facts.js";
import { knownOfScreen } from "./device.js";
import { oncePerFrame } from "./frame.js";
import { dayAndTime, t, time } from "./i18n.js";
import { isReached, live } from "./connection.js";
import { unanswered } from "./orders.js";

/** The most order numbers that the strip names. */
const NAMED = 4;
const CLOCK_MS = 5_000;

/** @typedef {import("./orders.js").Item} Item */
/**
 * Cancelled and removed orders and bookings that nobody has noticed yet, by key.
 * @type {Map<string, {item: Item, event?: string, isRemoved: boolean}>}
 */
export const takenBack = new Map();

/**
 * Functions of the page that this module calls. `reveal` scrolls to a card; `isInSight` tells whether a card is visible.
 * @type {{reveal: (key: string) => void, noticed: (keys: string[]) => void, isInSight: (key: string) => boolean, showsNew: (kind: import("./orders.js").Kind) => boolean}}
 */
let page;
let shown = "";

/** Sets the functions of the page that this module calls. @param {typeof page} given */
export function setUpAlarm(given) {
  page = given;
  setInterval(showCalm, CLOCK_MS);
  showCalm();
}

/** Shows the orders and bookings that wait for an answer. The rows are small while the column of new orders or bookings is visible. */
export const showAlarm = oncePerFrame(() => {
  const waits = unanswered();
  const [orders, bookings] = ["orders", "bookings"].map((kind) => waits.filter((item) => item.kind === kind));
  const rows = [stoppedRow(), waitingRow("orders", orders), waitingRow("bookings", bookings)].filter(Boolean);
  const shows = document.documentElement.lang + JSON.stringify(rows);
  if (shows === shown) return;
  shown = shows;
  showRows(rows);
  document.dispatchEvent(new Event("vestnik:alarm"));
  const loudest = takenBack.size ? "cancelled" : orders.length ? "order" : bookings.length ? "booking" : "";
  mark(document.body, "alarm", loudest);
  showCalm();
});

/** A row of the strip. `keys`: the orders and bookings that its button is about; a row without keys has no button. @typedef {{kind: "cancelled"|"orders"|"bookings", isLarge: boolean, title: string, detail: string, keys: string[]}} Row */

/** The language, kinds and buttons of the rows that the strip has. */
let made = "";

/**
 * Shows rows. A row stays the same element while only its words change: a new element costs more, and its icon would
 * start to shake anew. A row about other cancellations is a new element, so that a press that has begun does not count
 * for a cancellation that nobody has read.
 * @param {Row[]} rows
 */
function showRows(rows) {
  const kinds = document.documentElement.lang + rows.map(({ kind, keys }) => [kind, kind === "cancelled" ? keys : keys.length > 0]);
  if (made !== kinds) byId("alarm").replaceChildren(...rows.map(makeRow));
  made = kinds;
  rows.forEach(({ isLarge, title, detail, keys, kind }, at) => {
    const row = byId("alarm").children[at];
    mark(row, "size", isLarge ? "large" : "small");
    say(row.querySelector("strong"), title);
    say(row.querySelector("p span"), detail);
    const press = row.querySelector("button");
    if (press) press.onclick = () => (kind === "cancelled" ? page.noticed(keys) : page.reveal(keys[0]));
  });
}

/** Makes a row without its words. @param {Row} row */
function makeRow({ kind, keys }) {
  const isStop = kind === "cancelled";
  const press = keys.length > 0 && button("", isStop ? "check" : null, t(isStop ? "alarm.noticed" : "alarm.show"), () => {});
  return h("div", { class: `alarm-row alarm-${kind}` }, icon(isStop ? "stop" : kind === "orders" ? "bell" : "table"), h("p", {}, h("strong"), h("span")), press);
}

/**
 * The row about the orders or bookings that wait for an answer; null if none waits.
 * @param {import("./orders.js").Kind} kind
 * @param {Item[]} waits
 * @returns {Row|null}
 */
function waitingRow(kind, waits) {
  if (!waits.length) return null;
  const hidden = waits.filter((item) => !page.isInSight(item.key));
  const isSeen = page.showsNew("orders") || page.showsNew("bookings");
  const named = hidden.length ? hidden : waits;
  const numbers = named.slice(0, NAMED).map(signedNumber).join(", ") + (named.length > NAMED ? " …" : "");
  const about = kind === "orders" ? typeOf(waits[0]) : waits[0].starts_at && dayAndTime(waits[0].starts_at);
  const detail = waits.length === 1 ? [numbers, about].filter(Boolean).join(" · ") : numbers;
  return { kind, isLarge: !isSeen, title: t(`alarm.${kind}`, { n: waits.length }), detail, keys: hidden.slice(0, 1).map((item) => item.key) };
}

/** One row for all cancellations and removals. @returns {Row|null} */
function stoppedRow() {
  const gone = [...takenBack.values()];
  if (!gone.length) return null;
  const [{ item, isRemoved }] = gone;
  const one = `${isRemoved ? "removed" : "cancelled"}.${item.kind}`;
  const title = gone.length === 1 ? t(`alarm.${one}`, { number: numberOf(item) }) : t("alarm.several", { numbers: gone.map((each) => signedNumber(each.item)).join(", ") });
  const isCooked = gone.some((each) => each.item.kind === "orders");
  const detail = [t(isCooked ? "alarm.stop" : "alarm.free"), gone.length === 1 && item.reason].filter(Boolean).join(" · ");
  return { kind: "cancelled", isLarge: false, title, detail, keys: gone.map((each) => each.item.key) };
}

/** Adds one order to the number of orders that a store has today. @param {string} store */
export function countOne(store) {
  const opened = live.stores.get(store);
  if (opened && opened.today !== null) opened.today += 1;
  showCalm();
}

/** Shows the clock, the number of orders today, and the state of sound, connection and screen. */
export const showCalm = oncePerFrame(() => {
  const isEmpty = document.getElementById(`board-${document.body.dataset.view}`)?.dataset.empty === "true";
  // Neither the strip nor the board has room for these values now.
  if (byId("alarm").firstChild && !isEmpty) return;
  const checks = { sound: Boolean(live.ringer?.sounds), line: isReached(), screen: knownOfScreen() === "granted" };
  const clock = time(new Date());
  const counts = [...live.stores.values()].map((opened) => opened.today);
  const today = !counts.length || counts.includes(null) ? null : counts.reduce((sum, count) => sum + count, 0);
  const counted = today === null ? "" : today ? t("calm.today", { n: today }) : t("calm.none");
  if (byId("calm").hidden !== isEmpty) byId("calm").hidden = isEmpty;
  const shows = [clock, counted, ...Object.entries(checks).map(([name, isWell]) => `${t(`calm.${name}`)} ${isWell}`)].join();
  // The strip shows these values, and an empty board shows them in large letters.
  for (const name of ["calm", "calm-orders", "calm-bookings"]) {
    const place = document.getElementById(name);
    if (!place || place.dataset.shows === shows) continue;
    place.dataset.shows = shows;
    const marks = Object.entries(checks).map(([name, isWell]) =>
      h("span", { class: "check", data: { well: String(isWell) } }, icon(isWell ? "check" : "cross"), h("span", { text: t(`calm.${name}`) })),
    );
    place.replaceChildren(h("time", { class: "calm-clock", text: clock }), ...(counted ? [h("span", { class: "calm-count", text: counted })] : []), h("span", { class: "checks" }, ...marks));
  }
});
