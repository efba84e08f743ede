/** What people read of an order or a booking: the same words on a card, in the dialog and on paper. @module facts */

import { knows, money, t } from "./i18n.js";
import { isSeveral, live, storeName } from "./connection.js";

const MINUTE_MS = 60_000;
/** A number longer than this is a key that nobody calls out: its end is enough. */
const LONG_NUMBER = 10;
const NUMBER_END = 5;

/** The server's time, as far as it is known. */
export const now = () => Date.now() + (live.connection?.api.clockAhead ?? 0);

/** @typedef {import("./orders.js").Item} Item */

/** The number that people call out, short. @param {Item} item */
export function shortNumber({ number }) {
  const text = String(number);
  return text.length > LONG_NUMBER ? `…${text.slice(-NUMBER_END)}` : text;
}

/** With its store, where there are several. @param {Item} item */
export const idOf = (item) => shortNumber(item) + (isSeveral() ? ` (${storeName(item.store)})` : "");

/** With its sign. @param {Item} item */
export const signedNumber = (item) => t("order.sign", { id: idOf(item) });

/** @param {Item} item */
export const numberOf = (item) => t(item.kind === "orders" ? "order.number" : "booking.number", { id: idOf(item) });

/** The sign of how it reaches its customer. @param {Item} item */
export function signOf({ kind, order_type: type }) {
  if (kind === "bookings") return "table";
  return { delivery: "scooter", pickup: "bag", dine_in: "table" }[type] ?? "tag";
}

/** How it reaches its customer: known words, or the shop's own. @param {Item} item */
export function typeOf({ kind, order_type: type }) {
  if (kind === "bookings") return t("booking.one");
  if (!type) return "";
  return knows(`type.${type}`) ? t(`type.${type}`) : type;
}

/** An amount of it. @param {Item} item @param {number} minor */
export const amount = (item, minor) => money(minor, item.currency, item.currency_digits);

/** @param {Item} item */
export const totalOf = (item) => (item.total === undefined ? "" : amount(item, item.total));

/** Paid or not, how, and the change to bring. @param {Item} item @returns {string[]} */
export function paymentOf(item) {
  const { method, paid, change_from: from } = item.payment ?? {};
  const how = method && (knows(`payment.${method.toLowerCase()}`) ? t(`payment.${method.toLowerCase()}`) : method);
  const isPaid = paid === undefined ? "" : t(paid ? "payment.paid" : "payment.unpaid");
  return [isPaid, how, from !== undefined && t("payment.changeFrom", { amount: amount(item, from) })].filter(Boolean);
}

/** @param {Item} item */
export function personsOf({ kind, persons, guests }) {
  const many = kind === "bookings" ? guests : persons;
  if (many === undefined) return "";
  return Number.isFinite(many) ? t(kind === "bookings" ? "booking.guests" : "order.persons", { n: many }) : String(many);
}

/** When it is wished or promised; of a booking, when the guests come. Milliseconds, or null. @param {Item} item */
export function dueAt({ kind, due_at: due, starts_at: starts, promised, promised_minutes: minutes }) {
  const wished = Date.parse((kind === "bookings" ? starts : due) ?? "");
  const ready = promised && minutes ? promised + minutes * MINUTE_MS : NaN;
  const times = [wished, ready].filter((at) => !Number.isNaN(at));
  return times.length ? Math.max(...times) : null;
}

/** What of it could not be read, and what stands there. @param {Item} item @returns {string[]} */
export const unreadableOf = ({ unreadable = [] }) =>
  unreadable.map(({ field, text }) => t("unreadable.one", { field: fieldName(field).toLowerCase(), text }));

/** What the shop changed of it. @param {Item} item */
export const changedOf = ({ marks = [] }) => marks.map((field) => fieldName(field).toLowerCase()).join(", ");

/** A field of the wire, as people call it. @param {string} field */
export const fieldName = (field) => (knows(`field.${field}`) ? t(`field.${field}`) : field);

/** Taps to call. @param {string} phone */
export const phoneLink = (phone) => `tel:${phone.replace(/[^\d+*#]/g, "")}`;

/** The device's own map, or one in the browser; nothing is asked of it before somebody taps. @param {string} address */
export function mapLink(address) {
  const asked = encodeURIComponent(address);
  if (/Android/.test(navigator.userAgent)) return `geo:0,0?q=${asked}`;
  if (/iPad|iPhone|Macintosh/.test(navigator.userAgent)) return `https://maps.apple.com/?q=${asked}`;
  return `https://www.google.com/maps/search/?api=1&query=${asked}`;
}

/** What a screen reader says of a new one, after its title. @param {Item} item */
export const spokenOf = (item) =>
  [typeOf(item), item.comment, (item.items ?? []).map(({ quantity, name }) => `${quantity} ${name}`).join(", ")].filter(Boolean).join(". ");
