/** The words that describe an order or booking on cards, in the dialog and on printed tickets. @module facts */

import { knows, money, t } from "./i18n.js";
import { isSeveral, live, storeName } from "./connection.js";

const MINUTE_MS = 60_000;
/** An order number with more characters than this is a technical key that nobody says aloud. The panel shows only its last `NUMBER_END` characters. */
const LONG_NUMBER = 10;
const NUMBER_END = 5;

/** The current time in milliseconds, by the server's clock if it is known. */
export const now = () => Date.now() + (live.connection?.api.clockAhead ?? 0);

/** @typedef {import("./orders.js").Item} Item */

/** The number that people say aloud. A long number is cut to its last characters. @param {Item} item */
export function shortNumber({ number }) {
  const text = String(number);
  return text.length > LONG_NUMBER ? `…${text.slice(-NUMBER_END)}` : text;
}

/** The short number, with the name of its store if the page has several stores. @param {Item} item */
export const idOf = (item) => shortNumber(item) + (isSeveral() ? ` (${storeName(item.store)})` : "");

/** The short number with a number sign. @param {Item} item */
export const signedNumber = (item) => t("order.sign", { id: idOf(item) });

/** The words "order" or "booking" with the short number. @param {Item} item */
export const numberOf = (item) => t(item.kind === "orders" ? "order.number" : "booking.number", { id: idOf(item) });

/** The icon for the way an order reaches its customer. @param {Item} item */
export function signOf({ kind, order_type: type }) {
  if (kind === "bookings") return "table";
  return { delivery: "scooter", pickup: "bag", dine_in: "table" }[type] ?? "tag";
}

/** The words for the way an order reaches its customer: translated, or the shop's own word. @param {Item} item */
export function typeOf({ kind, order_type: type }) {
  if (kind === "bookings") return t("booking.one");
  if (!type) return "";
  return knows(`type.${type}`) ? t(`type.${type}`) : type;
}

/** An amount in the currency of the order. @param {Item} item @param {number} minor the amount in minor units */
export const amount = (item, minor) => money(minor, item.currency, item.currency_digits);

/** The total of an order as text; "" if the order has no total. @param {Item} item */
export const totalOf = (item) => (item.total === undefined ? "" : amount(item, item.total));

/** Whether an order is paid, the payment method, and the note that the customer needs change for. @param {Item} item @returns {string[]} */
export function paymentOf(item) {
  const { method, paid, change_from: from } = item.payment ?? {};
  const how = method && (knows(`payment.${method.toLowerCase()}`) ? t(`payment.${method.toLowerCase()}`) : method);
  const isPaid = paid === undefined ? "" : t(paid ? "payment.paid" : "payment.unpaid");
  return [isPaid, how, from !== undefined && t("payment.changeFrom", { amount: amount(item, from) })].filter(Boolean);
}

/** The number of persons of an order, or of guests of a booking, as text. @param {Item} item */
export function personsOf({ kind, persons, guests }) {
  const many = kind === "bookings" ? guests : persons;
  if (many === undefined) return "";
  return Number.isFinite(many) ? t(kind === "bookings" ? "booking.guests" : "order.persons", { n: many }) : String(many);
}

/**
 * When an order must be ready, or when the guests of a booking come; milliseconds, or null. For an order with a
 * wished time and a promised time, the later one counts.
 * @param {Item} item
 */
export function dueAt({ kind, due_at: due, starts_at: starts, promised, promised_minutes: minutes }) {
  const wished = Date.parse((kind === "bookings" ? starts : due) ?? "");
  const ready = promised && minutes ? promised + minutes * MINUTE_MS : NaN;
  const times = [wished, ready].filter((at) => !Number.isNaN(at));
  return times.length ? Math.max(...times) : null;
}

/** Messages about the fields that the server could not read, with the text of each field in the shop's table. @param {Item} item @returns {string[]} */
export const unreadableOf = ({ unreadable = [] }) =>
  unreadable.map(({ field, text }) => t("unreadable.one", { field: fieldName(field).toLowerCase(), text }));

/** The names of the fields that the shop has changed. @param {Item} item */
export const changedOf = ({ marks = [] }) => marks.map((field) => fieldName(field).toLowerCase()).join(", ");

/** The translated name of a field of the protocol. @param {string} field */
export const fieldName = (field) => (knows(`field.${field}`) ? t(`field.${field}`) : field);

/** A link that calls the number. @param {string} phone */
export const phoneLink = (phone) => `tel:${phone.replace(/[^\d+*#]/g, "")}`;

/** A link to the map app of the device, or to a map in the browser. It sends nothing until a person opens it. @param {string} address */
export function mapLink(address) {
  const asked = encodeURIComponent(address);
  if (/Android/.test(navigator.userAgent)) return `geo:0,0?q=${asked}`;
  if (/iPad|iPhone|Macintosh/.test(navigator.userAgent)) return `https://maps.apple.com/?q=${asked}`;
  return `https://www.google.com/maps/search/?api=1&query=${asked}`;
}

/** The words that a screen reader says about a new order, after its title. @param {Item} item */
export const spokenOf = (item) =>
  [typeOf(item), item.comment, (item.items ?? []).map(({ quantity, name }) => `${quantity} ${name}`).join(", ")].filter(Boolean).join(". ");
