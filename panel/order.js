/**
 * The dialog with all facts of an order or booking. In this dialog, a person accepts or rejects an order, moves it to
 * the next status, or undoes a step.
 *
 * @module order
 */

import { asksMinutes, lineRow, printMark, promised, wordFor, yesButton } from "./card.js";
import { byId, button, h, icon } from "./dom.js";
import { factsOf } from "./allfacts.js";
import { amount, changedOf, numberOf, signOf, signedNumber, totalOf, typeOf, unreadableOf } from "./facts.js";
import { t } from "./i18n.js";
import { connectionOf } from "./connection.js";
import { stepper } from "./minutes.js";
import { find, items, unanswered } from "./orders.js";
import { print, printOf } from "./autoprint.js";
import { still } from "./presslock.js";
import { proveShown } from "./rendered.js";
import { act, delay, pressed, stepBefore, takeBack } from "./actions.js";

/** The most characters of a reason that the server accepts. */
const REASON_CHARS = 500;
/** The delays that a person can choose, minutes. */
const DELAYS = [5, 10, 15];
/** The most other orders that the dialog names by their numbers. */
const OTHERS = 5;

/** The key of the order or booking in the dialog. @type {string|null} */
let shown = null;
let rejecting = false;

/** @typedef {import("./orders.js").Item} Item */

setUp();

/** Opens the dialog. @param {string} key @param {string} [focus] `reject`: show the reasons for a rejection */
export function openOrder(key, focus) {
  const item = find(key);
  if (!item) return;
  shown = key;
  rejecting = focus === "reject";
  render();
  const dialog = byId("order");
  if (!dialog.open) dialog.showModal();
  (dialog.querySelector(rejecting ? ".reason" : ".yes") ?? dialog.querySelector(".order-close")).focus();
  proveShown(key);
  // A person who opens an order has seen it, so report an acknowledgement.
  if (item.event) connectionOf(item.store)?.ack(item.event);
}

/**
 * Updates the dialog after a change of its order, or closes it if the order is gone.
 * @param {string} key the key of the changed order
 * @param {boolean} isOurs whether a person pressed a button for it on this page
 */
export function refreshOrder(key, isOurs) {
  if (key !== shown) return;
  if (!find(key)) return byId("order").close();
  const dialog = byId("order");
  const [top, focused] = [dialog.querySelector(".order-body")?.scrollTop ?? 0, focusIn(dialog)];
  render();
  dialog.querySelector(".order-body").scrollTop = top;
  if (focused) (dialog.querySelector(focused) ?? dialog.querySelector(".order-close")).focus({ preventScroll: true });
  if (!isOurs) still(dialog.querySelector(".order-foot") ?? dialog);
}

/** A selector that finds the focused element again after the dialog is drawn again. @param {HTMLElement} dialog */
function focusIn(dialog) {
  const element = document.activeElement;
  if (!element || !dialog.contains(element) || element === dialog) return null;
  return element.classList.length ? `.${[...element.classList].join(".")}` : null;
}

function setUp() {
  const dialog = byId("order");
  document.addEventListener("vestnik:alarm", showOthers);
  dialog.addEventListener("close", () => {
    const item = shown === null ? undefined : items.get(shown);
    shown = null;
    if (!item?.marks?.length) return;
    item.marks = [];
    document.dispatchEvent(new CustomEvent("vestnik:looked", { detail: item.key }));
  });
  // A press outside the dialog closes it.
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
}

function render() {
  const item = find(shown);
  const dialog = byId("order");
  const status = h("span", { class: "status", data: { status: item.status }, text: t(`status.${item.kind}.${item.status}`) });
  const close = h("button", { type: "button", class: "round order-close", "aria-label": t("order.close"), on: { click: () => dialog.close() } }, icon("cross"));
  const printed = printOf(item.key)?.state === "printed";
  const word = t(printed ? "order.printAgain" : "order.print");
  const printer = h("button", { type: "button", class: "round order-print", "aria-label": word, title: word, on: { click: () => print(item) } }, icon("printer"));
  const type = h("span", { class: "order-type" }, icon(signOf(item)), typeOf(item));
  dialog.replaceChildren(
    h("header", { class: "order-top" }, h("div", {}, h("h2", { id: "order-title", text: numberOf(item), title: item.number }), h("p", {}, status, type)), printer, close),
    h("p", { class: "order-others", hidden: true }),
    h(
      "div",
      { class: "order-body", tabindex: "0", role: "region", "aria-label": t("order.all") },
      item.marks?.length ? h("p", { class: "card-changed" }, icon("pen"), h("span", { text: t("order.changed", { fields: changedOf(item) }) })) : null,
      item.comment && h("p", { class: "comment" }, icon("speech"), h("span", { text: item.comment })),
      ...unreadableOf(item).map((words) => h("p", { class: "unreadable" }, icon("stop"), h("span", { text: words }))),
      lineList(item),
      facts(item),
      printMark(item),
    ),
    footer(item) ?? "",
  );
  showOthers();
}

/** Names the other orders that ring, because the dialog covers their cards. */
function showOthers() {
  const place = byId("order").querySelector(".order-others");
  if (!place) return;
  const others = unanswered().filter((item) => item.key !== shown);
  place.hidden = !others.length;
  place.textContent = t("order.others", { numbers: others.slice(0, OTHERS).map((item) => (item.kind === "orders" ? signedNumber(item) : numberOf(item))).join(", ") + (others.length > OTHERS ? " …" : "") });
}

/** The list of facts in the dialog. @param {Item} item */
function facts(item) {
  const rows = factsOf(item).map(({ name, value, link }) => {
    const shown = link ? h("a", { href: link, target: "_blank", rel: "noreferrer noopener", text: value }) : value;
    return h("div", {}, h("dt", { text: name }), h("dd", {}, shown));
  });
  const key = item.number === item.id ? null : h("div", {}, h("dt", { text: t("field.id") }), h("dd", { class: "fact-key", text: item.id }));
  return h("dl", { class: "facts" }, ...rows, key);
}

/** The list of dishes in the dialog. @param {Item} item */
function lineList(item) {
  const lines = item.items ?? [];
  if (item.kind !== "orders" && !lines.length) return null;
  const list = h("ul", { class: "lines lines-full" }, ...lines.map((line, number) => lineRow(line, item, number, (minor) => amount(item, minor))));
  if (!lines.length) list.append(h("li", { text: t("order.noItems") }));
  if (item.items_omitted) list.append(h("li", { class: "lines-more", text: t("order.itemsOmitted", { n: item.items_omitted }) }));
  const total = totalOf(item);
  return h("div", {}, list, total && h("p", { class: "total" }, h("span", { text: t("order.total") }), h("b", { text: total })));
}

/** The buttons of the dialog; null if the order or booking needs no buttons. @param {Item} item */
function footer(item) {
  const busy = pressed.get(item.key);
  const next = item.next ?? [];
  if (rejecting && next.includes("rejected")) return reasons(item, busy);
  const yes = next.filter((to) => to !== "rejected").map((to) => yesButton(item, to, busy, () => go(item, to)));
  const reject = next.includes("rejected") && button("no", "cross", t("order.rejectWhy"), askWhy, { disabled: Boolean(busy) });
  const before = stepBefore(item);
  const back = before && button("quiet step-back", "undo", t("order.stepBack", { status: t(`status.${item.kind}.${before}`) }), () => goBack(item, before), { disabled: Boolean(busy) });
  if (!yes.length && !back) return null;
  const isDelayable = item.kind === "orders" && item.status === "preparing" && next.length > 0;
  const longer = (n) => button("quiet delay", null, `+${t("order.minutes", { n })}`, () => delay(item, n), { data: { delay: n }, disabled: Boolean(busy) });
  const delays = isDelayable && h("div", { class: "minutes delays", role: "group", "aria-label": t("order.delay") }, h("span", { text: t("order.delay") }), ...DELAYS.map(longer));
  const steps = asksMinutes(item) && h("div", { class: "minutes" }, h("span", { text: t("order.readyIn") }), stepper(item, () => (yes[0].querySelector("span").textContent = wordFor(item, "preparing"))));
  return h("footer", { class: "order-foot" }, steps || delays || null, h("div", { class: "card-actions" }, ...yes, reject || null), back || null);
}

/**
 * The form with the reasons for a rejection.
 * @param {Item} item
 * @param {string|undefined} busy the requested status, while its event has not arrived
 */
function reasons(item, busy) {
  const own = h("input", { type: "text", class: "reason-own", maxlength: REASON_CHARS, placeholder: t("reject.own"), "aria-label": t("reject.own"), autocomplete: "off", required: true });
  const kinds = ["products", "busy", "closed", ...(item.kind === "bookings" || item.order_type === "delivery" ? ["other"] : [])];
  const choices = kinds.map((kind) => button("reason", null, t(`reject.${item.kind}.${kind}`), () => go(item, "rejected", { reason: t(`reject.${item.kind}.${kind}`) }), { disabled: Boolean(busy) }));
  const back = button("quiet", null, t("order.back"), () => ((rejecting = false), render()));
  const send = h("button", { type: "submit", class: "no no-full", disabled: Boolean(busy) }, icon("cross"), h("span", { text: t("order.reject") }));
  const submit = (event) => {
    event.preventDefault();
    const reason = own.value.trim();
    if (reason) go(item, "rejected", { reason });
    else own.focus();
  };
  return h(
    "form",
    { class: "order-foot", novalidate: true, on: { submit } },
    h("p", { class: "order-ask", text: t("reject.why") }),
    h("div", { class: "reasons" }, ...choices),
    own,
    h("div", { class: "card-actions" }, back, send),
  );
}

function askWhy() {
  rejecting = true;
  render();
  byId("order").querySelector(".reason").focus();
}

/** Requests a new status, and closes the dialog if the server accepts the change. @param {Item} item @param {string} to @param {{reason?: string}} [more] */
async function go(item, to, more = {}) {
  if (await act(item, to, { ...promised(item, to), ...more })) byId("order").close();
}

/** Undoes the last step, and closes the dialog if the server accepts the change. @param {Item} item @param {string} to the status before that step */
async function goBack(item, to) {
  if (await takeBack(item, to)) byId("order").close();
}
