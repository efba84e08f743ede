/** An order opened to its items: accept it in so many minutes, refuse it with a reason, bring it on. @module order */

import { dueAt, lineRow, numberOf, signOf, typeOf, wordFor } from "./card.js";
import { at, button, h, icon } from "./dom.js";
import { dayAndTime, exactTime, money, say, time } from "./i18n.js";
import { live } from "./live.js";
import { items, linesOf, unanswered } from "./orders.js";
import { change, settings } from "./settings.js";
import { printTicket } from "./ticket.js";
import { act, pressed } from "./work.js";

const MINUTES = [10, 15, 20, 30, 45, 60, 90];
const REASON_CHARS = 500;
/** Numbers of other orders that the dialog names. */
const OTHERS = 5;

/** What is open. @type {string|null} */
let shown = null;
let rejecting = false;

/** @param {string} key @param {string} [focus] `reject`: with the reasons */
export function openOrder(key, focus) {
  const item = items.get(key);
  if (!item) return;
  shown = key;
  rejecting = focus === "reject";
  render();
  const dialog = at("order");
  if (!dialog.open) dialog.showModal();
  dialog.querySelector(rejecting ? ".reason" : ".minutes input:checked, .yes")?.focus();
  // A person looks at it.
  if (item.event) live.connection?.ack(item.event);
}

/** What became of one; the dialog is changed, or closed, where it shows it. @param {string} key */
export function refreshOrder(key) {
  if (key !== shown) return;
  if (items.has(key)) render();
  else at("order").close();
}

export function setUpOrder() {
  const dialog = at("order");
  document.addEventListener("vestnik:alarm", showOthers);
  dialog.addEventListener("close", () => (shown = null));
  // A press beside it closes it.
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
}

function render() {
  const item = items.get(shown);
  const dialog = at("order");
  const status = h("span", { class: "status", data: { status: item.status }, text: say(`status.${item.kind}.${item.status}`) });
  const close = h("button", { type: "button", class: "round", "aria-label": say("order.close"), on: { click: () => dialog.close() } }, icon("cross"));
  const print = h("button", { type: "button", class: "round", "aria-label": say("order.print"), title: say("order.print"), on: { click: () => printTicket(item) } }, icon("printer"));
  dialog.replaceChildren(
    h("header", { class: "order-top" }, h("div", {}, h("h2", { id: "order-title", text: numberOf(item) }), status), print, close),
    h("p", { class: "order-others", hidden: true }),
    h("div", { class: "order-body" }, facts(item), lineList(item)),
    footer(item),
  );
  showOthers();
}

/** What rings behind the dialog must be seen before it. */
function showOthers() {
  const place = at("order").querySelector(".order-others");
  if (!place) return;
  const others = unanswered().filter((item) => item.key !== shown);
  place.hidden = !others.length;
  place.textContent = say("order.others", { numbers: others.slice(0, OTHERS).map((item) => `#${item.id}`).join(", ") + (others.length > OTHERS ? " …" : "") });
}

/** @param {import("./orders.js").Item} item */
function facts(item) {
  const facts = h("dl", { class: "facts" });
  const add = (name, value) => value && facts.append(h("div", {}, h("dt", { text: say(`fact.${name}`) }), h("dd", { text: value })));
  add("customer", item.customer_name);
  add("type", typeOf(item));
  add("guests", item.guests && String(item.guests));
  add("startsAt", item.starts_at && dayAndTime(item.starts_at));
  add("at", exactTime(item.since));
  const due = dueAt(item);
  add("due", due && time(due));
  add("by", item.answer?.by && `${item.answer.by}, ${time(item.answer.at)}`);
  add("reason", item.reason);
  facts.prepend(icon(signOf(item)));
  return facts;
}

/** @param {import("./orders.js").Item} item */
function lineList(item) {
  if (item.kind !== "orders") return null;
  const lines = linesOf(item);
  const list = h("ul", { class: "lines lines-full" }, ...lines.map((line) => lineRow(line, true)));
  if (!lines.length) list.append(h("li", { text: say(item.items_omitted ? "order.itemsOmitted" : "order.noItems") }));
  const total = item.total != null && h("p", { class: "total" }, h("span", { text: say("order.total") }), h("b", { text: money(item.total) }));
  return h("div", {}, list, total);
}

/** @param {import("./orders.js").Item} item */
function footer(item) {
  const busy = pressed.get(item.key);
  if (rejecting && item.next.includes("rejected")) return reasons(item, busy);
  const forward = item.next.filter((to) => to !== "rejected");
  const row = h("div", { class: "card-actions" });
  for (const to of forward) row.append(button("yes", "check", wordFor(item, to), () => go(item, to), busy ? { disabled: true, "aria-busy": busy === to } : {}));
  if (item.next.includes("rejected")) row.append(button("no", "cross", say("order.rejectWhy"), () => reject(), { disabled: Boolean(busy) }));
  const asks = item.kind === "orders" && item.status === "pending" && forward.includes("preparing");
  return h("footer", { class: "order-foot" }, asks && minutes(), row);
}

function minutes() {
  const choose = (event) => {
    change({ minutes: Number(event.target.value) });
    at("order").querySelector(".yes span").textContent = say("order.acceptIn", { n: settings.minutes });
    document.dispatchEvent(new Event("vestnik:minutes"));
  };
  const chip = (n) =>
    h("label", { class: "chip" }, h("input", { type: "radio", name: "minutes", value: n, "aria-label": say("order.minutes", { n }), checked: n === settings.minutes, on: { change: choose } }), h("span", { text: String(n) }));
  return h("fieldset", { class: "minutes" }, h("legend", { text: say("order.readyIn") }), ...MINUTES.map(chip));
}

/** @param {import("./orders.js").Item} item @param {string|undefined} busy */
function reasons(item, busy) {
  const own = h("input", { type: "text", class: "reason-own", maxlength: REASON_CHARS, placeholder: say("reject.own"), "aria-label": say("reject.own"), autocomplete: "off" });
  const kinds = ["products", "busy", "closed", "other"];
  const choices = kinds.map((kind) => button("reason", null, say(`reject.${item.kind}.${kind}`), () => go(item, "rejected", { reason: say(`reject.${item.kind}.${kind}`) }), { disabled: Boolean(busy) }));
  const send = button("no no-full", "cross", say("order.reject"), () => go(item, "rejected", own.value.trim() ? { reason: own.value.trim() } : {}), { disabled: Boolean(busy) });
  const back = button("quiet", null, say("order.back"), () => ((rejecting = false), render()));
  return h("footer", { class: "order-foot" }, h("p", { class: "order-ask", text: say("reject.why") }), h("div", { class: "reasons" }, ...choices), own, h("div", { class: "card-actions" }, back, send));
}

function reject() {
  rejecting = true;
  render();
  at("order").querySelector(".reason").focus();
}

/** @param {import("./orders.js").Item} item @param {string} to @param {{reason?: string}} [more] */
async function go(item, to, more = {}) {
  const minutes = item.kind === "orders" && to === "preparing" ? { minutes: settings.minutes } : {};
  if (await act(item, to, { ...minutes, ...more })) at("order").close();
}
