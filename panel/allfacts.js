/** Lists the facts of an order or booking, for the dialog and for the printed ticket. @module allfacts */

import { dueAt, fieldName, mapLink, paymentOf, personsOf, phoneLink } from "./facts.js";
import { dayAndTime, t, time } from "./i18n.js";

/** @typedef {import("./orders.js").Item} Item */

/**
 * The facts of an order or booking, except number, type, comment and items.
 * @param {Item} item
 * @returns {{name: string, value: string, link?: string}[]} name: the label
 */
export function factsOf(item) {
  const due = dueAt(item);
  const facts = [
    fact("starts_at", item.kind === "bookings" && (due === null ? "" : dayAndTime(due))),
    fact("guests", item.kind === "bookings" && personsOf(item)),
    fact("customer_name", item.customer_name),
    fact("phone", item.phone, item.phone && phoneLink(item.phone)),
    fact("address", item.address, item.address && mapLink(item.address)),
    fact("payment", paymentOf(item).join(" · ")),
    fact("persons", item.kind === "orders" && personsOf(item)),
    fact("due_at", item.kind === "orders" && due !== null && dayAndTime(due)),
    fact("promised_minutes", item.promised_minutes && t("order.minutes", { n: item.promised_minutes })),
    fact("at", dayAndTime(item.since)),
    fact("by", item.by && (item.stands ? `${item.by}, ${time(item.stands)}` : item.by)),
    fact("reason", item.reason),
    fact("status_word", item.status_word),
    ...(item.extra ?? []).map(({ label, value }) => ({ name: label, value })),
  ];
  return facts.filter(Boolean);
}

/** A fact with the name of its field; null if it has no value. @param {string} field @param {string|false|null|undefined|0} value @param {string} [link] */
const fact = (field, value, link) => (value ? { name: fieldName(field), value, link } : null);
