/** The history view: figures, closed orders, and events with their receipts (by which channel and when each event reached somebody). @module history */

import { byId, button, h, icon } from "./dom.js";
import { numberOf, shortNumber, totalOf } from "./facts.js";
import { exactTime, seconds, startOfDay } from "./calendar.js";
import { dayAndTime, t } from "./i18n.js";
import { isManager, live } from "./connection.js";
import { ordersOf, showDay } from "./day.js";
import { showFigures } from "./stats.js";
import { fits } from "./search.js";
import { openOrder } from "./order.js";
import { isOpen, keepClosed } from "./orders.js";
import { reasonOf } from "./actionfailure.js";

const PAGE = 100;
/** The time span of the summary ends this far in the future, because the server's clock may be ahead of the tablet's clock. */
const AHEAD_MS = 60_000;
const SIGNS = { new_order: "bell", new_booking: "table", order_cancelled: "stop", booking_cancelled: "stop" };

/** The filter of the events that the page shows. @type {{order: string, from: string, to: string}} */
let asked = { order: "", from: "", to: "" };
let turn = 0;

setUp();

function setUp() {
  byId("history-filter").addEventListener("submit", (event) => {
    event.preventDefault();
    showHistory();
  });
  byId("closed").addEventListener("toggle", () => byId("closed").open && live.connection && showClosed());
  byId("closed-words").addEventListener("input", showFound);
  byId("receipts").addEventListener("toggle", () => byId("receipts").open && showReceipts());
  document.querySelectorAll("[data-span]").forEach((chip) => chip.addEventListener("click", () => choose(chip)));
}

/** The closed orders of the time span that have been loaded. @type {import("./orders.js").Item[]} */
let over = [];

/** Loads the closed orders of the time span, and shows them. */
async function showClosed() {
  const { orders } = await ordersOf(span()).catch(() => ({ orders: [] }));
  over = orders.filter((order) => !isOpen(order));
  showFound();
}

/** Shows the closed orders that match the typed words: number, name, or digits of the phone number. */
function showFound() {
  const words = byId("closed-words").value.trim().toLowerCase();
  const found = words ? over.filter((order) => fits(order, words)) : over;
  const rows = found.slice(0, PAGE).map(closedRow);
  byId("closed-list").replaceChildren(...(rows.length ? rows : [h("li", { class: "quiet-words", text: t(words ? "find.none" : "history.closedNone") })]));
}

/** The row of a closed order. @param {import("./orders.js").Item} order */
function closedRow(order) {
  const words = [order.customer_name, order.phone, totalOf(order)].filter(Boolean).join(" · ");
  const how = [t(`status.orders.${order.status}`), order.reason].filter(Boolean).join(": ");
  const open = () => (keepClosed(order), openOrder(order.key));
  return h(
    "li",
    {},
    h("button", { type: "button", class: "closed-open", title: order.number, on: { click: open } }, h("b", { text: numberOf(order) }), h("span", { text: words }), h("span", { class: "closed-how", text: how }), h("time", { datetime: new Date(order.since).toISOString(), text: dayAndTime(order.since) })),
  );
}

/** @param {any} chip */
function choose(chip) {
  const isToday = chip.dataset.span === "today";
  const begin = isToday ? startOfDay() : new Date(Date.now() - Number(chip.dataset.span) * 3_600_000);
  document.querySelectorAll("[data-span]").forEach((other) => other.setAttribute("aria-pressed", String(other === chip)));
  byId("history-from").value = local(begin);
  byId("history-to").value = "";
  showHistory();
}

/** A date in the format of a `datetime-local` input. @param {Date} date */
const local = (date) => new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);

/** The time span that the filter states. If the filter is empty, the time span begins at the start of the store's current day. @returns {{from: string, to: string}} */
function span() {
  if (!byId("history-from").value) byId("history-from").value = local(startOfDay());
  const iso = (value) => (value ? new Date(value).toISOString() : "");
  return { from: iso(byId("history-from").value), to: iso(byId("history-to").value) };
}

/** Loads the history for the filter, and shows it. */
export async function showHistory() {
  if (byId("closed").open) showClosed();
  if (!isManager()) return;
  const { from, to } = span();
  const summary = live.connection.api.summary({ from, to: to || new Date(Date.now() + AHEAD_MS).toISOString() });
  const known = summary.catch(() => null);
  showDay({ from, to }, known);
  showFigures(known);
  const failure = await summary.then(() => "", reasonOf);
  byId("history-problem").textContent = failure && t("history.failed", { why: Date.parse(to || "9999") < Date.parse(from) ? t("history.backwards") : failure });
  if (byId("receipts").open) await showReceipts();
}

/** Shows each event with its receipts. The server is asked only when a person opens the list. */
async function showReceipts() {
  asked = { order: byId("history-order").value.trim().replace(/^[#№]\s*/, ""), ...span() };
  const mine = (turn += 1);
  byId("history-list").replaceChildren();
  byId("history-more").replaceChildren(h("p", { class: "quiet-words", text: t("history.loading") }));
  await more(mine);
}

/**
 * Shows the next page of events.
 * @param {number} mine the number of this request; if a later request has begun, the page ignores the response to this one
 * @param {string} [before] the id of the last event of the previous page
 */
async function more(mine, before) {
  const place = byId("history-more");
  try {
    const page = await live.connection.api.receipts({ ...asked, before, limit: PAGE });
    if (mine !== turn) return;
    byId("history-list").append(...page.events.map(row));
    const last = page.events.at(-1)?.id;
    if (page.more) place.replaceChildren(button("quiet", null, t("history.more"), () => more(mine, last)));
    else place.replaceChildren(h("p", { class: "quiet-words", text: t(byId("history-list").children.length ? "history.end" : "history.none") }));
  } catch (error) {
    if (mine !== turn) return;
    place.replaceChildren(h("p", { class: "quiet-words", text: t("history.failed", { why: reasonOf(error) }) }), button("quiet", null, t("notice.retry"), () => more(mine, before)));
  }
}

/** The row of an event, with its receipts. @param {any} event */
function row(event) {
  const kind = /booking/.test(event.type) ? "bookings" : "orders";
  const id = event.number === undefined ? "" : shortNumber(event);
  const words = t(`event.${event.type}`, { id, status: event.status ? t(`status.${kind}.${event.status}`) : "" });
  const proof = h("ul", { class: "proof" }, ...(event.channels ?? []).map((channel) => channelRow(channel, event.at)), ...(event.chats ?? []).map((chat) => chatRow(chat, event.at)), ladderRow(event.escalation));
  const reached = (event.channels ?? []).some((channel) => channel.channel !== "webhook" && (channel.sent || channel.rendered || channel.sounded)) || (event.chats ?? []).length;
  if (!reached && /^new_/.test(event.type)) proof.append(h("li", { class: "proof-none" }, icon("stop"), h("span", { text: t("receipts.none") })));
  return h(
    "li",
    { class: "event", data: { type: event.type } },
    icon(SIGNS[event.type] ?? "clock"),
    h("div", { class: "event-words" }, h("strong", { text: words, title: event.subject }), h("time", { datetime: event.at, text: dayAndTime(event.at) }), h("span", { class: "event-exact", text: exactTime(event.at) })),
    proof,
  );
}

/** The row of a channel (such as `websocket` or `telegram`), with its receipts. @param {any} channel @param {string} began when the event happened, ISO 8601 */
function channelRow(channel, began) {
  const steps = ["sent", "rendered", "sounded", "acknowledged"].filter((step) => channel[step]).map((step) => {
    const after = Math.max(0, (Date.parse(channel[step]) - Date.parse(began)) / 1000);
    return h("span", { class: `step step-${step}` }, t(`receipts.${step}`), h("b", { text: seconds(after) }));
  });
  const by = channel.by && h("span", { class: "step step-by" }, icon("person"), channel.by);
  return h("li", {}, h("span", { class: "channel", text: t(`channel.${channel.channel}`) }), ...steps, by);
}

/** The row of a Telegram chat, with the state of its message. @param {any} chat @param {string} began when the event happened, ISO 8601 */
function chatRow(chat, began) {
  const sent = chat.completed;
  const after = sent ? seconds(Math.max(0, (Date.parse(sent) - Date.parse(began)) / 1000)) : "";
  const state = t(`chat.${chat.state ?? "sent"}`);
  return h("li", {}, h("span", { class: "channel", text: "Telegram" }), h("span", { class: "step" }, [chat.chat, state].filter(Boolean).join(" · "), h("b", { text: after })));
}

/** The row of an escalation, with the number of its last step; null if it has reached no step. @param {any} escalation */
function ladderRow(escalation) {
  if (!escalation?.step) return null;
  return h("li", {}, h("span", { class: "channel", text: t("receipts.escalation") }), h("span", { class: "step", text: t("receipts.steps", { n: escalation.step }) }));
}
