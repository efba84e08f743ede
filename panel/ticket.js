/** Makes a kitchen ticket as a list of text blocks. The browser or an ESC/POS printer prints the ticket. @module ticket */

import { byId, h } from "./dom.js";
import { factsOf } from "./allfacts.js";
import { amount, now, numberOf, totalOf, typeOf, unreadableOf } from "./facts.js";
import { dayAndTime, t } from "./i18n.js";
import { storeName } from "./connection.js";
import { settings } from "./settings.js";
import { dishesOf, namesOf } from "./stations.js";

/** The white margin on each side of the paper, millimetres. */
const MARGIN_MM = 3;
const MM_PER_PX = 25.4 / 96;

/** @typedef {{style: string, text: string, label?: string}} Block a paragraph of a ticket; style: the key of its style in raster.js, which is also its CSS class */

/** The style sheet that sets the page size of the ticket. */
const sheet = new CSSStyleSheet();
document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];

/**
 * The blocks of a ticket.
 * @param {import("./orders.js").Item} item
 * @param {boolean} isCopy whether the order was printed before
 * @returns {Block[]}
 */
export function ticketOf(item, isCopy) {
  const { own, others } = dishesOf(item);
  const block = (style, text, label) => (text ? [{ style, text, label }] : []);
  const dish = ({ line }) => [
    ...block("line", `${line.quantity} × ${line.name}`),
    ...block("options", (line.options ?? []).join(", ")),
    ...block("note", line.note),
  ];
  const rule = { style: "rule", text: "" };
  const omitted = item.items_omitted ? t("order.itemsOmitted", { n: item.items_omitted }) : "";
  const change = item.payment?.change_from;
  return [
    ...block("copy", isCopy && t("ticket.copy")),
    ...block("store", storeName(item.store)),
    ...block("title", numberOf(item)),
    ...block("type", typeOf(item)),
    ...block("comment", item.comment),
    ...unreadableOf(item).flatMap((words) => block("fact", words)),
    ...factsOf(item).flatMap(({ name, value }) => block("fact", String(value), name)),
    ...(own.length ? [rule, ...own.flatMap(dish)] : []),
    ...block("fact", others.length && t("stations.others", { dishes: namesOf(others) })),
    ...block("fact", omitted),
    ...(own.length ? [rule] : []),
    ...block("total", totalOf(item) && `${t("order.total")} ${totalOf(item)}`),
    ...block("total", change !== undefined && t("payment.changeFrom", { amount: amount(item, change) })),
    ...block("store", t("ticket.printed", { time: dayAndTime(now()) })),
  ];
}

/**
 * Prints through the browser. The browser shows a dialog, unless it was started with --kiosk-printing.
 * @param {Block[]} blocks
 * @param {number} copies
 * @returns {number} how long the print has blocked the page, milliseconds
 */
export function printByBrowser(blocks, copies) {
  const place = byId("ticket");
  const width = settings.paper;
  place.style.setProperty("--paper", `${width}mm`);
  const one = () => h("div", { class: "ticket-one" }, ...blocks.map(({ style, text, label }) => h("p", { class: `ticket-${style}` }, label && h("span", { text: `${label}: ` }), text)));
  place.replaceChildren(one());
  place.dataset.measured = "";
  const height = Math.ceil(place.getBoundingClientRect().height * MM_PER_PX) + 2 * MARGIN_MM + 1;
  delete place.dataset.measured;
  place.replaceChildren(...Array.from({ length: copies }, one));
  sheet.replaceSync(`@page { size: ${width}mm ${height}mm; margin: ${MARGIN_MM}mm; }`);
  const began = performance.now();
  window.print();
  return performance.now() - began;
}
