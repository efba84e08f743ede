/** A ticket for the kitchen's printer, black on white, as long as what stands on it. @module ticket */

import { at, h } from "./dom.js";
import { amount, factsOf, now, numberOf, totalOf, typeOf, unreadableOf } from "./facts.js";
import { dayAndTime, say } from "./i18n.js";
import { settings } from "./settings.js";

/** What a roll leaves white at each side, and above and below, millimetres. */
const MARGIN_MM = 3;
const MM_PER_PX = 25.4 / 96;

let storeName = "";
/** @param {string} name */
export const setTicketStore = (name) => (storeName = name);

/** What a page is as large as. */
const sheet = new CSSStyleSheet();
document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];

/** Prints it; one that is being printed is finished first. @param {import("./orders.js").Item} item */
export function printTicket(item) {
  const place = at("ticket");
  place.replaceChildren(...ticket(item));
  const width = settings.paper;
  place.style.setProperty("--paper", `${width}mm`);
  place.dataset.measured = "";
  const height = Math.ceil(place.getBoundingClientRect().height * MM_PER_PX) + 2 * MARGIN_MM + 1;
  delete place.dataset.measured;
  sheet.replaceSync(`@page { size: ${width}mm ${height}mm; margin: ${MARGIN_MM}mm; }`);
  // The browser's dialog; without one where it was started with --kiosk-printing.
  window.print();
}

/** What arrived, or was accepted here, is printed by itself, where that was chosen. @param {import("./orders.js").Item} item @param {"arrival"|"accept"} when */
export function printWhen(item, when) {
  if (settings.autoPrint === when && item.kind === "orders") printTicket(item);
}

/** @param {import("./orders.js").Item} item */
function ticket(item) {
  const line = ({ quantity, name, options, note }) =>
    h("li", {}, h("b", { text: `${quantity} × ` }), name, options?.length && h("span", { class: "ticket-options", text: options.join(", ") }), note && h("strong", { class: "ticket-note", text: note }));
  const total = totalOf(item);
  const lines = item.items ?? [];
  return [
    storeName && h("p", { class: "ticket-store", text: storeName }),
    h("h1", { text: numberOf(item) }),
    h("p", { class: "ticket-type", text: typeOf(item) }),
    item.comment && h("p", { class: "ticket-comment", text: item.comment }),
    ...unreadableOf(item).map((words) => h("p", { text: words })),
    ...factsOf(item).map(({ name, value }) => h("p", { class: "ticket-fact" }, h("span", { text: `${name}: ` }), value)),
    lines.length && h("ul", {}, ...lines.map(line)),
    item.items_omitted && h("p", { text: say("order.itemsOmitted", { n: item.items_omitted }) }),
    total && h("p", { class: "ticket-total", text: `${say("order.total")} ${total}` }),
    item.payment?.change_from !== undefined && h("p", { class: "ticket-total", text: say("payment.changeFrom", { amount: amount(item, item.payment.change_from) }) }),
    h("p", { class: "ticket-store", text: say("ticket.printed", { time: dayAndTime(now()) }) }),
  ].filter(Boolean);
}
