/** A ticket for the kitchen's printer: 80 mm wide, black on white. @module ticket */

import { dueAt, numberOf, typeOf } from "./card.js";
import { at, h } from "./dom.js";
import { dayAndTime, exactTime, money, say, time } from "./i18n.js";
import { linesOf } from "./orders.js";
import { settings } from "./settings.js";

let storeName = "";
/** @param {string} name */
export const setTicketStore = (name) => (storeName = name);

/** Prints it; one that is being printed is finished first. @param {import("./orders.js").Item} item */
export function printTicket(item) {
  at("ticket").replaceChildren(...ticket(item));
  // The browser's dialog; without one where it was started with --kiosk-printing.
  window.print();
}

/** What arrived is printed by itself, where that was chosen. @param {import("./orders.js").Item} item */
export function printOnArrival(item) {
  if (settings.autoPrint && item.kind === "orders") printTicket(item);
}

/** @param {import("./orders.js").Item} item */
function ticket(item) {
  const line = (line) =>
    h("li", {}, h("b", { text: `${line.count} × ` }), line.name, line.note && h("small", { text: line.note }));
  const due = dueAt(item);
  return [
    storeName && h("p", { class: "ticket-store", text: storeName }),
    h("h1", { text: numberOf(item) }),
    h("p", { class: "ticket-type", text: typeOf(item) }),
    item.customer_name && h("p", { text: item.customer_name }),
    h("p", { text: say("ticket.at", { time: exactTime(item.since) }) }),
    due && h("p", { text: say("ticket.due", { time: time(due) }) }),
    item.starts_at && h("p", { text: `${dayAndTime(item.starts_at)}, ${say("booking.guests", { n: item.guests ?? 0 })}` }),
    h("ul", {}, ...linesOf(item).map(line)),
    item.total != null && h("p", { class: "ticket-total", text: `${say("order.total")} ${money(item.total)}` }),
  ].filter(Boolean);
}
