/** The figures of the orders in a time span: totals, refusals with their reasons, and a table to download. @module day */

import { byId, button, h } from "./dom.js";
import { now, paymentOf, typeOf } from "./facts.js";
import { seconds } from "./calendar.js";
import { dayAndTime, money, t } from "./i18n.js";
import { live } from "./connection.js";
import { fromList } from "./orders.js";

const PAGE = 500;
/** The most pages that the panel reads from the server. Ten pages have 5,000 orders. */
const PAGES = 10;
const REASONS = 8;

/** @typedef {import("./orders.js").Item} Item */

/**
 * The orders that came within a time span, the newest first. `isWhole` is false if the time span has more orders than
 * the panel reads.
 * @param {{from: string, to: string}} span
 * @returns {Promise<{orders: Item[], isWhole: boolean}>}
 */
export async function ordersOf({ from, to }) {
  /** @type {Item[]} */
  const orders = [];
  const [begin, end] = [Date.parse(from), to ? Date.parse(to) : now()];
  let last;
  for (let page = 0; page < PAGES; page += 1) {
    const list = await live.connection.api.list("orders", { status: "all", limit: PAGE, before: last?.id, before_source: last?.source });
    last = list.orders.at(-1);
    orders.push(...list.orders.map((row) => fromList(live.connection.api.of, "orders", row)).filter(({ since }) => since >= begin && since <= end));
    if (!list.more || !last || Date.parse(last.created_at) < begin) return { orders, isWhole: true };
  }
  return { orders, isWhole: false };
}

/** Shows the figures of a time span. @param {{from: string, to: string}} span @param {Promise<any>} asked the summary from the server */
export async function showDay(span, asked) {
  const [{ orders, isWhole }, summary] = await Promise.all([ordersOf(span).catch(() => ({ orders: [], isWhole: false })), asked]);
  const done = orders.filter(({ status }) => status !== "rejected" && status !== "cancelled");
  const preparation = summary?.preparation_seconds;
  const figure = (name, value, note) => h("div", { class: "figure" }, h("dt", { text: t(`day.${name}`) }, note && h("small", { text: note })), h("dd", { text: value }));
  const took = (value) => (value == null ? "–" : value < 60 ? seconds(value) : t("order.minutes", { n: Math.round(value / 60) }));
  const late = preparation?.promised ? `${Math.round((100 * preparation.late) / preparation.promised)} %` : "–";
  const ninety = (value) => (value == null ? "" : t("day.ninety", { time: took(value) }));
  const share = orders.length ? `${Math.round((100 * (orders.length - done.length)) / orders.length)} %` : "";
  byId("day").replaceChildren(
    h(
      "dl",
      { class: "totals" },
      figure("orders", String(orders.length)),
      figure("sum", sums(done) || "–"),
      figure("answer", took(summary?.acknowledge_seconds?.p50), ninety(summary?.acknowledge_seconds?.p90)),
      figure("preparation", took(preparation?.p50), ninety(preparation?.p90)),
      figure("late", late, preparation?.promised ? t("day.of", { n: preparation.late, all: preparation.promised }) : ""),
      figure("refused", String(orders.length - done.length), share),
    ),
    reasons(orders) ?? "",
    isWhole ? "" : h("p", { class: "quiet-words", text: t("day.part", { n: orders.length }) }),
    button("quiet csv", null, t("day.csv"), () => download(orders), { disabled: !orders.length }),
  );
}

/** The sum of the totals for each currency, as text. @param {Item[]} orders */
function sums(orders) {
  /** @type {Map<string, {sum: number, digits: number}>} */
  const found = new Map();
  for (const { total, currency, currency_digits: digits } of orders) {
    if (total !== undefined) found.set(currency, { sum: (found.get(currency)?.sum ?? 0) + total, digits });
  }
  return [...found].map(([currency, { sum, digits }]) => money(sum, currency, digits)).join(" + ");
}

/** The most frequent reasons why orders were rejected or cancelled. @param {Item[]} orders */
function reasons(orders) {
  const found = new Map();
  for (const { status, reason } of orders.filter((order) => order.status === "rejected" || order.status === "cancelled")) {
    const words = [t(`status.orders.${status}`), reason].filter(Boolean).join(": ");
    found.set(words, (found.get(words) ?? 0) + 1);
  }
  if (!found.size) return null;
  const rows = [...found].sort(([, a], [, b]) => b - a).slice(0, REASONS);
  return h("ul", { class: "reasons-of" }, ...rows.map(([words, count]) => h("li", {}, h("b", { text: String(count) }), h("span", { text: words }))));
}

/** Makes a CSV table that any spreadsheet program opens. @param {Item[]} orders @returns {string} */
export function csv(orders) {
  const columns = ["number", "at", "status", "type", "customer_name", "phone", "total", "currency", "payment", "by", "reason", "items"];
  const head = columns.map((name) => t(`csv.${name}`));
  const rows = orders.map((order) => [
    order.number,
    new Date(order.since).toISOString(),
    t(`status.orders.${order.status}`),
    typeOf(order),
    order.customer_name,
    order.phone,
    order.total === undefined ? "" : (order.total / 10 ** order.currency_digits).toFixed(order.currency_digits),
    order.total === undefined ? "" : order.currency,
    paymentOf(order).join(", "),
    order.by,
    order.reason,
    (order.items ?? []).map(({ quantity, name }) => `${quantity} × ${name}`).join("; "),
  ]);
  return [head, ...rows].map((row) => row.map(cell).join(",")).join("\r\n");
}

/** A CSV cell. A spreadsheet runs a text that begins with `=`, `+`, `-` or `@` as a formula. An added quote prevents this. @param {unknown} value */
function cell(value) {
  const text = String(value ?? "");
  return `"${(/^[=+\-@\t\r]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
}

/** Saves the orders as a CSV file. @param {Item[]} orders */
function download(orders) {
  // The byte order mark tells a spreadsheet program that the file is UTF-8.
  const url = URL.createObjectURL(new Blob([`\ufeff${csv(orders)}`], { type: "text/csv" }));
  const link = h("a", { href: url, download: `vestnik-${dayAndTime(orders.at(-1).since).replace(/[^\p{L}\d]+/gu, "-")}.csv` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url));
}
