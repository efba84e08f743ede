/** Shows the bookings of a day by hour, and the number of guests in each hour. @module bookings */

import { byId, button, h } from "./dom.js";
import { now, signedNumber } from "./facts.js";
import { dayName, hourOf } from "./calendar.js";
import { dayOf, t } from "./i18n.js";
import { openOrder } from "./order.js";
import { isLookedAt } from "./connection.js";
import { items } from "./orders.js";

const DAY_MS = 86_400_000;
/** The days that a person can choose, from today on. */
/** @type {(0|1)[]} */
const DAYS = [0, 1];

/** @typedef {import("./orders.js").Item} Item */

let chosen = 0;
let shown = "";

/** Draws the day again, if its content has changed. */
export function showBookingDay() {
  const day = dayOf(now() + chosen * DAY_MS);
  const bookings = [...items.values()].filter((item) => item.kind === "bookings" && isLookedAt(item) && item.starts_at && dayOf(Date.parse(item.starts_at)) === day);
  const hours = byHour(bookings);
  const count = (offset) => [...items.values()].filter((item) => item.kind === "bookings" && isLookedAt(item) && item.starts_at && dayOf(Date.parse(item.starts_at)) === dayOf(now() + offset * DAY_MS)).length;
  const counts = DAYS.map(count);
  const shows = JSON.stringify([document.documentElement.lang, chosen, day, counts, hours.map(([hour, all]) => [hour, all.map(({ key, status, guests, number }) => [key, status, guests, number])])]);
  if (shows === shown) return;
  shown = shows;
  const choose = (offset) => {
    chosen = offset;
    showBookingDay();
  };
  const days = DAYS.map((offset) => button("quiet", null, `${dayName(now() + offset * DAY_MS, offset)} · ${counts[offset]}`, () => choose(offset), { "aria-pressed": String(offset === chosen), data: { day: offset } }));
  const most = Math.max(1, ...hours.map(([, all]) => guestsOf(all)));
  byId("booking-day").replaceChildren(h("div", { class: "days", role: "group", "aria-label": t("bookday.days") }, ...days), hours.length ? h("ol", { class: "hours" }, ...hours.map(([hour, all]) => hourRow(hour, all, most))) : h("p", { class: "quiet-words", text: t("bookday.none") }));
}

/** Groups bookings by hour, from the first hour with a booking to the last. @param {Item[]} bookings @returns {[number, Item[]][]} */
function byHour(bookings) {
  const hours = bookings.map((item) => hourOf(Date.parse(item.starts_at)));
  if (!hours.length) return [];
  const [first, last] = [Math.min(...hours), Math.max(...hours)];
  return Array.from({ length: last - first + 1 }, (_, at) => [first + at, bookings.filter((_, number) => hours[number] === first + at).sort((a, b) => Date.parse(a.starts_at) - Date.parse(b.starts_at))]);
}

/** The number of guests of all these bookings. @param {Item[]} bookings */
const guestsOf = (bookings) => bookings.reduce((sum, { guests }) => sum + (Number(guests) || 0), 0);

/** The row of an hour, with its bookings and its number of guests. @param {number} hour 0 to 23 @param {Item[]} bookings @param {number} most the most guests in one hour */
function hourRow(hour, bookings, most) {
  const guests = guestsOf(bookings);
  const bar = h("span", { class: "hour-bar", "aria-hidden": "true" });
  bar.style.setProperty("--share", String(guests / most));
  const chips = bookings.map((item) => button("hour-booking", null, signedNumber(item), () => openOrder(item.key), { data: { status: item.status }, title: item.customer_name ?? "" }));
  return h("li", {}, h("b", { text: `${hour}:00` }), bar, h("span", { class: "hour-guests", text: guests ? t("booking.guests", { n: guests }) : "" }), h("span", { class: "hour-bookings" }, ...chips));
}
