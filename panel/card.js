/** The card of an order or booking on the board. @module card */

import { button, h, icon, mark, say } from "./dom.js";
import { changedOf, dueAt, mapLink, now, numberOf, paymentOf, personsOf, phoneLink, shortNumber, signOf, totalOf, typeOf, unreadableOf } from "./facts.js";
import { clock, dayAndTime, t, time } from "./i18n.js";
import { isSeveral, live, storeName } from "./connection.js";
import { isLater, minutesFor, stepper } from "./minutes.js";
import { isQueued, queuedRow } from "./queue.js";
import { printOf } from "./autoprint.js";
import { dishesOf, isOwnLine, namesOf } from "./stations.js";
import { isTickable, isTicked, lineIds, toggleTick } from "./ticks.js";
import { act, cancelQueued, pressed } from "./actions.js";

/** The most lines of an order that a card shows. */
const LINES = 8;
const MINUTE_MS = 60_000;
/** The clock turns amber this long before the order is due. */
const SOON_MS = 5 * MINUTE_MS;
/** An order that is due in more than this time shows the time of day instead of a clock. */
const LATER_MS = 3 * 60 * MINUTE_MS;

/** @typedef {import("./orders.js").Item} Item */

/**
 * @param {Item} item
 * @param {(key: string, focus?: string) => void} open
 */
export function card(item, open) {
  const title = `title-${encodeURIComponent(item.key)}`;
  const opener = h("button", { type: "button", class: "card-open", id: title, title: item.number, on: { click: () => open(item.key) } }, h("span", { text: t("order.sign", { id: shortNumber(item) }) }));
  opener.setAttribute("aria-label", [numberOf(item), typeOf(item), item.customer_name].filter(Boolean).join(", "));
  const made = h(
    "article",
    { class: "card", "aria-labelledby": title, data: { key: item.key, status: item.status, kind: item.kind } },
    h("header", { class: "card-top" }, h("h3", {}, opener), h("span", { class: "age" })),
    isSeveral() && h("p", { class: "card-store", text: storeName(item.store) }),
    item.marks?.length && h("p", { class: "card-changed" }, icon("pen"), h("span", { text: t("order.changed", { fields: changedOf(item) }) })),
    h("p", { class: "card-type" }, icon(signOf(item)), h("span", { text: typeOf(item) }), h("b", { text: totalOf(item) })),
    item.comment && h("p", { class: "comment" }, icon("speech"), h("span", { text: item.comment })),
    item.kind === "bookings" && h("p", { class: "card-booking" }, h("b", { text: item.starts_at ? dayAndTime(item.starts_at) : t("booking.noTime") }), h("span", { text: personsOf(item) })),
    item.kind === "orders" ? lines(item) : item.items?.length && lines(item),
    contact(item),
    ...unreadableOf(item).map((words) => h("p", { class: "unreadable" }, icon("stop"), h("span", { text: words }))),
    printMark(item),
    actions(item, open),
  );
  if (live.stores.get(item.store)?.keptAt) made.dataset.kept = "";
  age(made, item);
  return made;
}

/** A mark that says whether this device has printed the ticket of an order; null if the ticket was neither printed nor queued. @param {Item} item */
export function printMark(item) {
  const { state, at, why } = printOf(item.key) ?? {};
  if (!state) return null;
  const words = state === "printed" ? t("print.printed", { time: dayAndTime(at) }) : state === "waits" ? t("print.waits") : `${t("print.notPrinted")} ${t(`print.why.${why}`)}`;
  return h("p", { class: "print-mark", data: { print: state } }, icon("printer"), h("span", { text: words }));
}

/** A row with the customer, the payment, and other short facts. @param {Item} item */
function contact(item) {
  const word = (value) => value && h("span", { text: value });
  const link = (href, sign, text) => h("a", { href, class: "card-link", target: "_blank", rel: "noreferrer noopener" }, icon(sign), h("span", { text }));
  const words = [
    word(item.customer_name),
    item.phone && link(phoneLink(item.phone), "phone", item.phone),
    item.address && link(mapLink(item.address), "pin", item.address),
    word(paymentOf(item).join(" · ")),
    item.kind === "orders" && word(personsOf(item)),
    item.status_word && word(t("order.statusWord", { word: item.status_word })),
    ...(item.extra ?? []).map(({ label, value }) => word(`${label}: ${value}`)),
  ].filter(Boolean);
  return words.length ? h("p", { class: "card-contact" }, ...words) : null;
}

/** @param {Item} item */
function lines(item) {
  const { own, others } = dishesOf(item);
  if (!own.length) return h("p", { class: "card-none", text: t("order.noItems") });
  const shown = own.slice(0, own.length > LINES ? LINES - 1 : LINES);
  const more = own.length - shown.length + (item.items_omitted ?? 0);
  const list = h("ul", { class: "lines" }, ...shown.map(({ line, number }) => lineRow(line, item, number)));
  if (others.length) list.append(h("li", { class: "lines-more lines-others", text: t("stations.others", { dishes: namesOf(others) }) }));
  if (more) list.append(h("li", { class: "lines-more", text: t("order.moreItems", { n: more }) }));
  return list;
}

/**
 * @param {import("./orders.js").Line} line
 * @param {Item} item
 * @param {number} number index of the line
 * @param {(minor: number) => string} [price] formats an amount; without it the row shows no price
 */
export function lineRow(line, item, number, price) {
  const count = Number.isFinite(line.quantity) ? `${line.quantity}×` : String(line.quantity);
  const cost = price && line.price !== undefined && Number.isFinite(line.quantity) ? line.price * Number(line.quantity) : undefined;
  const parts = [
    h("span", { class: line.quantity === 1 ? "count" : "count count-many", text: count }),
    h(
      "span",
      { class: "line-name" },
      line.name,
      line.options?.length && h("small", { class: "line-options", text: line.options.join(", ") }),
      line.note && h("small", { class: "line-note", text: line.note }),
    ),
    cost !== undefined && h("span", { class: "line-price", text: price(cost) }),
  ];
  const style = isOwnLine(line) ? null : "line-other";
  if (!isTickable(item) || live.scope === "read") return h("li", { class: style }, ...parts);
  const id = lineIds(item)[number];
  return h("li", { class: style }, h("button", { type: "button", class: "tick", data: { of: item.key, line: id }, "aria-pressed": String(isTicked(item, id)), on: { click: () => tick(item, id) } }, ...parts));
}

/** Ticks a dish as done, or removes the tick, everywhere on the page. @param {Item} item @param {string} id */
function tick(item, id) {
  const isDone = toggleTick(item, id);
  document.querySelectorAll(".tick").forEach((row) => row.dataset.of === item.key && row.dataset.line === id && row.setAttribute("aria-pressed", String(isDone)));
  document.dispatchEvent(new Event("vestnik:tick"));
}

/** @param {Item} item @param {(key: string, focus?: string) => void} open */
function actions(item, open) {
  if (!item.next?.length) return null;
  const busy = pressed.get(item.key);
  const yes = item.next.filter((to) => to !== "rejected").map((to) => yesButton(item, to, busy));
  const row = h("footer", { class: "card-actions" });
  if (isQueued(item.key)) {
    row.append(queuedRow(item.key, () => cancelQueued(item.key)));
    return row;
  }
  if (item.status === "pending") {
    const reject = item.next.includes("rejected") && button("no no-small", "cross", "", () => open(item.key, "reject"), { "aria-label": t("order.rejectOne", { number: numberOf(item) }), title: t("order.reject"), disabled: Boolean(busy) });
    const steps = asksMinutes(item) && stepper(item, () => (yes[0].querySelector("span").textContent = wordFor(item, "preparing")));
    if (steps) row.append(h("div", { class: "card-choices" }, steps, reject || null), ...yes);
    else row.append(...yes, reject || "");
    return row;
  }
  const noShow = isNoShow(item) && button("quiet", "cross", t("booking.noShow"), () => act(item, "rejected", { reason: t("booking.noShow") }), { disabled: Boolean(busy), data: { to: "no-show" } });
  row.append(...yes, noShow || "");
  return row;
}

/** Whether the card has a button for guests who did not come: the booking is accepted, and its time has passed. @param {Item} item */
const isNoShow = (item) => item.kind === "bookings" && item.status !== "pending" && item.next.includes("rejected") && Date.parse(item.starts_at ?? "") < now();

/** Whether a person who accepts this order also chooses the minutes until it is ready. @param {Item} item */
export const asksMinutes = (item) => item.kind === "orders" && item.status === "pending" && item.next.includes("preparing");

/**
 * The button that requests the status `to`.
 * @param {Item} item
 * @param {string} to
 * @param {string|undefined} busy the requested status, while its event has not arrived
 * @param {() => Promise<any>} [press]
 */
export function yesButton(item, to, busy, press = () => act(item, to, promised(item, to))) {
  return button("yes", "check", wordFor(item, to), press, { data: { to }, disabled: Boolean(busy), ...(busy ? { "aria-busy": String(busy === to) } : {}) });
}

/** The minutes that a person promises with a step. Empty, unless the step accepts an order. @param {Item} item @param {string} to @returns {{minutes?: number}} */
export const promised = (item, to) => (to === "preparing" && asksMinutes(item) ? { minutes: minutesFor(item) } : {});

/** The label of the button that requests the status `to`. @param {Item} item @param {string} to */
export function wordFor(item, to) {
  if (item.kind === "bookings") return t(`booking.to.${to}`);
  if (to === "preparing") return acceptWord(item);
  if (to === "completed" && item.status === "ready") return t("order.to.handed");
  return t(`order.to.${to}`);
}

/** @param {Item} item */
function acceptWord(item) {
  const due = dueAt(item);
  if (due !== null && due - now() > LATER_MS) return t("order.acceptFor", { time: dayAndTime(due) });
  return t("order.acceptIn", { n: minutesFor(item) });
}

/**
 * The time that an order has waited, or the time until it is due, as text and with a colour.
 * @param {Item} item
 * @returns {{words: string, tone: ""|"soon"|"late"}}
 */
export function ageOf(item) {
  const waits = Math.max(0, now() - item.since);
  if (item.status === "pending") {
    const answer = live.stores.get(item.store)?.answerMs;
    // A booking is not urgent, because its guests may come on another day.
    const isCalm = item.kind === "bookings";
    return { words: clock(waits), tone: isCalm ? "" : waits > answer ? "late" : waits > answer / 2 ? "soon" : "" };
  }
  if (item.kind === "bookings") return { words: "", tone: "" };
  const due = dueAt(item);
  if (item.status !== "preparing" || due === null) return { words: clock(Math.max(0, now() - (item.stands ?? item.since))), tone: "" };
  const left = due - now();
  if (left > LATER_MS || isLater(item)) return { words: t("time.at", { time: time(due) }), tone: "" };
  return { words: left < 0 ? `−${clock(-left)}` : clock(left), tone: left < 0 ? "late" : left < SOON_MS ? "soon" : "" };
}

/** Updates the clock and the colour of a card. @param {HTMLElement} made @param {Item} item */
export function age(made, item) {
  const place = /** @type {HTMLElement} */ (made.querySelector(".age"));
  const { words, tone } = ageOf(item);
  say(place, words);
  mark(made, "tone", tone);
}
