/**
 * The strip above the board: what waits for an answer, and what was taken back. While nothing does, it shows that all is
 * well: the clock, the day's count, and sound, line and screen. It has its place always, so that nothing moves when it speaks.
 *
 * @module alarmbar
 */

import { byId, button, h, icon } from "./dom.js";
import { numberOf, signedNumber, typeOf } from "./facts.js";
import { knownOfScreen } from "./device.js";
import { oncePerFrame } from "./frame.js";
import { dayAndTime, t, time } from "./i18n.js";
import { isReached, live } from "./connection.js";
import { unanswered } from "./orders.js";

/** Numbers of orders that the strip names. */
const NAMED = 4;
const CLOCK_MS = 5_000;

/** @typedef {import("./orders.js").Item} Item */
/** What nobody has noticed yet, by key. @type {Map<string, {item: Item, event?: string, isRemoved: boolean}>} */
export const takenBack = new Map();

/** @type {{reveal: (key: string) => void, noticed: (keys: string[]) => void, isInSight: (key: string) => boolean, showsNew: (kind: import("./orders.js").Kind) => boolean}} */
let page;
let shown = "";

/** @param {typeof page} given */
export function setUpAlarm(given) {
  page = given;
  setInterval(showCalm, CLOCK_MS);
  showCalm();
}

/** Shows what waits. It is small while all of it is before a person's eyes. */
export const showAlarm = oncePerFrame(() => {
  const [orders, bookings] = [unanswered("orders"), unanswered("bookings")];
  const rows = [stoppedRow(), waitingRow("orders", orders), waitingRow("bookings", bookings)].filter(Boolean);
  const shows = document.documentElement.lang + rows.map((row) => row.shows).join("|");
  if (shows === shown) return;
  shown = shows;
  byId("alarm").replaceChildren(...rows.map(({ make }) => make()));
  document.dispatchEvent(new Event("vestnik:alarm"));
  const loudest = takenBack.size ? "cancelled" : orders.length ? "order" : bookings.length ? "booking" : "";
  // Set again, even to the same, it would have the style of every card looked at anew.
  if (document.body.dataset.alarm !== loudest) document.body.dataset.alarm = loudest;
});

/** What a row shows, and what makes it. @typedef {{shows: string, make: () => HTMLElement}} Row */

/** @param {import("./orders.js").Kind} kind @param {Item[]} waits @returns {Row|null} */
function waitingRow(kind, waits) {
  if (!waits.length) return null;
  const hidden = waits.filter((item) => !page.isInSight(item.key));
  const isSeen = page.showsNew("orders") || page.showsNew("bookings");
  const named = hidden.length ? hidden : waits;
  const numbers = named.slice(0, NAMED).map(signedNumber).join(", ") + (named.length > NAMED ? " …" : "");
  const about = kind === "orders" ? typeOf(waits[0]) : waits[0].starts_at && dayAndTime(waits[0].starts_at);
  const detail = waits.length === 1 ? [numbers, about].filter(Boolean).join(" · ") : numbers;
  const make = () => {
    const words = h("p", {}, h("strong", { text: t(`alarm.${kind}`, { n: waits.length }) }), h("span", { text: detail }));
    const show = hidden.length > 0 && button("", null, t("alarm.show"), () => page.reveal(hidden[0].key));
    return h("div", { class: `alarm-row alarm-${kind}`, data: { size: isSeen ? "small" : "large" } }, icon(kind === "orders" ? "bell" : "table"), words, show || null);
  };
  return { shows: [kind, isSeen, hidden[0]?.key, waits.length, detail].join(), make };
}

/** All of them in one. @returns {Row|null} */
function stoppedRow() {
  const gone = [...takenBack.values()];
  if (!gone.length) return null;
  const [{ item, isRemoved }] = gone;
  const one = `${isRemoved ? "removed" : "cancelled"}.${item.kind}`;
  const title = gone.length === 1 ? t(`alarm.${one}`, { number: numberOf(item) }) : t("alarm.several", { numbers: gone.map((each) => signedNumber(each.item)).join(", ") });
  const isCooked = gone.some((each) => each.item.kind === "orders");
  const detail = [t(isCooked ? "alarm.stop" : "alarm.free"), gone.length === 1 && item.reason].filter(Boolean).join(" · ");
  const keys = gone.map((each) => each.item.key);
  const words = () => h("p", {}, h("strong", { text: title }), h("span", { text: detail }));
  const make = () => h("div", { class: "alarm-row alarm-cancelled" }, icon("stop"), words(), button("", "check", t("alarm.noticed"), () => page.noticed(keys)));
  return { shows: title + detail, make };
}

/** One more. @param {string} store */
export function countOne(store) {
  const opened = live.stores.get(store);
  if (opened && opened.today !== null) opened.today += 1;
  showCalm();
}

/** The clock, the day's count, and whether all is well. */
export const showCalm = oncePerFrame(() => {
  const checks = { sound: Boolean(live.ringer?.sounds), line: isReached(), screen: knownOfScreen() === "granted" };
  const clock = time(new Date());
  const counts = [...live.stores.values()].map((opened) => opened.today);
  const today = !counts.length || counts.includes(null) ? null : counts.reduce((sum, count) => sum + count, 0);
  const counted = today === null ? "" : today ? t("calm.today", { n: today }) : t("calm.none");
  const isEmpty = document.getElementById(`board-${document.body.dataset.view}`)?.dataset.empty === "true";
  if (byId("calm").hidden !== isEmpty) byId("calm").hidden = isEmpty;
  const shows = [clock, counted, ...Object.entries(checks).map(([name, isWell]) => `${t(`calm.${name}`)} ${isWell}`)].join();
  // In the strip, and large where there is nothing else to see.
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
