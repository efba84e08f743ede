/** One order, or one booking, as it stands on the board. @module card */

import { button, h, icon } from "./dom.js";
import { dayAndTime, money, say, span } from "./i18n.js";
import { live } from "./live.js";
import { linesOf } from "./orders.js";
import { settings } from "./settings.js";
import { act, pressed } from "./work.js";

/** Lines of an order that a card shows. */
const LINES = 6;
/** After this long an order that nobody answered is late. */
const LATE_MS = 60_000;
const MINUTE_MS = 60_000;

/** The server's time, as far as it is known. */
export const now = () => Date.now() + (live.connection?.api.clockAhead ?? 0);

/** When it should be ready, where somebody said so. @param {import("./orders.js").Item} item */
export function dueAt({ status, answer }) {
  return status === "preparing" && answer?.minutes ? Date.parse(answer.at) + answer.minutes * MINUTE_MS : null;
}

/** The sign of how it reaches its customer. @param {import("./orders.js").Item} item */
export const signOf = ({ kind, order_type }) => (kind === "bookings" ? "table" : order_type === "delivery" ? "scooter" : "bag");

/** @param {import("./orders.js").Item} item */
export const numberOf = ({ kind, id }) => say(kind === "orders" ? "order.number" : "booking.number", { id });

/** @param {import("./orders.js").Item} item */
export function typeOf({ kind, order_type }) {
  if (kind === "bookings") return say("booking.one");
  return order_type === "delivery" || order_type === "pickup" ? say(`type.${order_type}`) : "";
}

/**
 * @param {import("./orders.js").Item} item
 * @param {(key: string, focus?: string) => void} open
 */
export function card(item, open) {
  const title = `title-${encodeURIComponent(item.key)}`;
  const opener = h("button", { type: "button", class: "card-open", id: title, on: { click: () => open(item.key) } }, h("span", { text: `#${item.id}` }));
  opener.setAttribute("aria-label", [numberOf(item), typeOf(item), item.customer_name].filter(Boolean).join(", "));
  const made = h(
    "article",
    { class: "card", "aria-labelledby": title, data: { key: item.key, status: item.status, kind: item.kind } },
    h("header", { class: "card-top" }, h("h3", {}, opener), h("span", { class: "age" })),
    h("p", { class: "card-type" }, icon(signOf(item)), h("span", { text: typeOf(item) }), item.total != null && h("b", { text: money(item.total) })),
    item.customer_name && h("p", { class: "card-who", text: item.customer_name }),
    item.kind === "bookings" ? bookingWords(item) : lines(item),
    actions(item, open),
  );
  age(made, item);
  return made;
}

/** @param {import("./orders.js").Item} item */
function bookingWords(item) {
  const guests = item.guests ? say("booking.guests", { n: item.guests }) : "";
  return h("p", { class: "card-booking" }, h("b", { text: item.starts_at ? dayAndTime(item.starts_at) : say("booking.noTime") }), h("span", { text: guests }));
}

/** @param {import("./orders.js").Item} item */
function lines(item) {
  const all = linesOf(item);
  if (!all.length) return h("p", { class: "card-none", text: say(item.items_omitted ? "order.itemsOmitted" : "order.noItems") });
  const shown = all.slice(0, all.length > LINES ? LINES - 1 : LINES);
  const list = h("ul", { class: "lines" }, ...shown.map((line) => lineRow(line)));
  if (all.length > shown.length) list.append(h("li", { class: "lines-more", text: say("order.moreItems", { n: all.length - shown.length }) }));
  return list;
}

/** @param {ReturnType<typeof import("./orders.js").lineOf>} line */
export function lineRow(line, withPrice = false) {
  return h(
    "li",
    {},
    h("span", { class: line.count === 1 ? "count" : "count count-many", text: Number.isFinite(line.count) ? `${line.count}×` : line.count }),
    h("span", { class: "line-name" }, line.name, line.note && h("small", { text: line.note })),
    withPrice && line.cost !== undefined && h("span", { class: "line-price", text: money(line.cost) }),
  );
}

/** @param {import("./orders.js").Item} item @param {(key: string, focus?: string) => void} open */
function actions(item, open) {
  if (!item.next?.length) return null;
  const busy = pressed.get(item.key);
  const row = h("footer", { class: "card-actions" });
  for (const to of item.next) {
    const props = busy ? { disabled: true, "aria-busy": busy === to } : {};
    if (to === "rejected") {
      // The usual way out is big; on a card that is being worked on, the other one is only in the dialog.
      if (item.status !== "pending") continue;
      row.append(button("no", "cross", say("order.reject"), () => open(item.key, "reject"), props));
    } else {
      row.append(button("yes", "check", wordFor(item, to), () => act(item, to, minutesFor(item, to)), props));
    }
  }
  return row;
}

/** What a button says that makes `to` of it. @param {import("./orders.js").Item} item @param {string} to */
export function wordFor(item, to) {
  if (item.kind === "bookings") return say(`booking.to.${to}`);
  if (to === "preparing") return say("order.acceptIn", { n: settings.minutes });
  if (to === "completed" && item.status === "ready") return say("order.to.handed");
  return say(`order.to.${to}`);
}

/** @param {import("./orders.js").Item} item @param {string} to */
const minutesFor = (item, to) => (item.kind === "orders" && to === "preparing" ? { minutes: settings.minutes } : {});

/** @param {number} left milliseconds until it should be ready */
function leftWords(left) {
  if (Math.abs(left) < MINUTE_MS) return say("time.due");
  return left > 0 ? say("time.left", { time: span(left) }) : say("time.over", { time: span(-left) });
}

/** Sets how long it waits, or how long is left. @param {HTMLElement} made @param {import("./orders.js").Item} item */
export function age(made, item) {
  const place = made.querySelector(".age");
  const due = dueAt(item);
  const waits = Math.max(0, now() - item.since);
  const left = due === null ? 0 : due - now();
  const words = due === null ? span(waits) : leftWords(left);
  if (place.textContent !== words) place.textContent = words;
  place.classList.toggle("age-late", item.status === "pending" ? waits > LATE_MS : due !== null && left < 0);
}
