/**
 * What happens on the page when something happens in the shop: toasts, sounds, notifications, and the proof of them.
 *
 * An order rings from its arrival until it is accepted or rejected, by whomever and wherever. What is said here is about
 * an event; what rings is read off the orders themselves, so that neither a repeat nor a reload makes it wrong.
 *
 * @module alerts
 */

import { numberOf, signOf, typeOf } from "./card.js";
import { at, button, h, icon } from "./dom.js";
import { notify, shake, unnotify } from "./device.js";
import { money, say } from "./i18n.js";
import { live, notice } from "./live.js";
import { apply, items, keyOf, linesOf, subject, unanswered } from "./orders.js";
import { printOnArrival } from "./ticket.js";
import { announce, toast } from "./toast.js";
import { settle } from "./work.js";

/** Numbers of orders that the bar names. */
const NAMED = 3;
/** What is replayed is told when the replay is over, or after this. */
const REPLAY_PATIENCE_MS = 2_000;
/** The newest cancellations that are looked through where the events themselves are gone. */
const CANCELLED = 500;
/** Measures that are kept for who looks how quick it is. */
const MEASURES = 1_000;

/** @type {(key: string) => void} */
let update = () => {};
/** @type {(key: string) => void} */
let reveal = () => {};
/** Alerts of what is replayed: told when it is known what has become of it. @type {(() => void)[]} */
let waiting = [];
/** What the kitchen was told of. @type {Set<string>} */
const toldOf = new Set();
/** Cancellations that nobody has noticed yet, by key. @type {Map<string, {item: import("./orders.js").Item, event?: string}>} */
const cancelled = new Map();
/** Events that rang, by the key that rings. @type {Map<string, string>} */
const eventOf = new Map();
/** Events that stand on a screen which nobody can see. @type {Set<string>} */
const unseen = new Set();

/** How many alerts there were, by event: never two for one. */
export const alerted = new Map();

/** @param {{update: (key: string) => void, reveal: (key: string) => void}} page */
export function setUpAlerts(page) {
  ({ update, reveal } = page);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return;
    unseen.forEach((id) => live.connection?.rendered(id));
    unseen.clear();
  });
}

/** Everything that comes over the wire. @param {import("./vestnik.js").VestnikEvent} event */
export function handleEvent(event) {
  performance.mark(`vestnik:received:${event.id}`);
  const handle = {
    new_order: handleNewOrderNotification,
    new_booking: handleNewBookingNotification,
    order_status_changed: handleOrderStatusChanged,
    booking_status_changed: handleOrderStatusChanged,
    order_cancelled: handleCancellation,
    booking_cancelled: handleCancellation,
    order_unanswered: handleUnanswered,
    chat_disabled: handleChatDisabled,
  }[event.type];
  handle?.(event);
  performance.measure(`vestnik:handled:${event.id}`, `vestnik:received:${event.id}`);
  proveRendered(event);
}

/** A new order. @param {import("./vestnik.js").VestnikEvent} event */
export const handleNewOrderNotification = (event) =>
  handleNew(event, (item) => ({
    kind: "order",
    title: say("alert.newOrder", { id: item.id }),
    words: [typeOf(item), item.customer_name, item.total != null && money(item.total)],
    lines: linesOf(item).map((line) => `${line.count} ${line.name}`),
    shakes: [400, 150, 400],
  }));

/** A new booking. @param {import("./vestnik.js").VestnikEvent} event */
export const handleNewBookingNotification = (event) =>
  handleNew(event, (item) => ({
    kind: "booking",
    title: say("alert.newBooking", { id: item.id }),
    words: [item.customer_name, item.guests && say("booking.guests", { n: item.guests })],
    lines: [],
    shakes: [250],
  }));

/**
 * What waits for an answer, told in every way that there is.
 * @param {import("./vestnik.js").VestnikEvent} event
 * @param {(item: import("./orders.js").Item) => {kind: string, title: string, words: any[], lines: string[], shakes: number[]}} describe
 */
function handleNew(event, describe) {
  const became = take(event);
  if (!became) return;
  tell(event, () => {
    const item = items.get(became.item.key);
    if (item?.status !== "pending") return;
    ring(item);
    const { kind, title, words, lines, shakes } = describe(item);
    const detail = words.filter(Boolean).join(" · ");
    toast(title, { kind, detail, sign: signOf(item), open: () => reveal(item.key), id: item.id });
    announce([`${title}. ${detail}`, lines.join(", ")].filter(Boolean).join(". "));
    notify(title, detail, item.key);
    shake(shakes);
    printOnArrival(item);
  });
}

/** Somebody moved it on, here or elsewhere. @param {import("./vestnik.js").VestnikEvent} event */
export function handleOrderStatusChanged(event) {
  const became = take(event);
  if (!became) return;
  const { item, previous } = became;
  if (previous?.status === "pending" && item.status !== "pending") unnotify(item.key);
  if (event.replayed || item.status === "pending") return;
  announce(say("alert.status", { number: numberOf(item), status: say(`status.${item.kind}.${item.status}`) }));
}

/** The customer took it back: the kitchen must stop. @param {import("./vestnik.js").VestnikEvent} event */
export function handleCancellation(event) {
  const became = take(event);
  if (!became) return;
  const { item, previous } = became;
  // Nobody was told of it, or it was over: there is nothing to stop.
  if (!previous || (event.replayed && !toldOf.has(item.key))) return;
  tell(event, () => alertCancelled(item, event.id));
}

/** @param {import("./orders.js").Item} item @param {string} [event] where it is known */
function alertCancelled(item, event) {
  cancelled.set(item.key, { item, event });
  if (event) eventOf.set(`cancelled/${item.key}`, event);
  live.ringer.ring(`cancelled/${item.key}`, "cancelled");
  const title = say(item.kind === "orders" ? "alert.orderCancelled" : "alert.bookingCancelled", { id: item.id });
  announce(`${title}. ${item.reason ?? ""}`);
  notify(title, item.reason ?? "", item.key);
  shake([900, 200, 900]);
  showAlarm();
}

/**
 * After the lists were loaded anew, without the events between: what the kitchen was at may have been taken back.
 * @param {import("./orders.js").Item[]} gone what was open before, and is no longer
 */
export async function alertWhatWasTakenBack(gone) {
  for (const kind of /** @type {const} */ (["orders", "bookings"])) {
    if (!gone.some((item) => item.kind === kind)) continue;
    const list = await live.connection?.api.list(kind, { status: "cancelled", limit: CANCELLED }).catch(() => null);
    const ids = new Map((list?.[kind] ?? []).map((row) => [row.id, row]));
    gone.filter((item) => item.kind === kind && ids.has(item.id)).forEach((item) => alertCancelled({ ...item, ...ids.get(item.id) }));
  }
}

/** Nobody has answered for long: ring again, and harder. @param {import("./vestnik.js").VestnikEvent} event */
export function handleUnanswered(event) {
  const about = subject(event);
  const item = about && items.get(keyOf(about.kind, about.id));
  if (item?.status !== "pending") return;
  alerted.set(event.id, (alerted.get(event.id) ?? 0) + 1);
  eventOf.set(item.key, event.id);
  live.ringer.ring(item.key, "urgent");
  announce(say("alert.unanswered", { number: numberOf(item) }));
  shake([200, 100, 200, 100, 200]);
  showAlarm();
}

/** A chat of Telegram is off. @param {import("./vestnik.js").VestnikEvent} event */
export function handleChatDisabled(event) {
  const { title, chat, reason } = event.data;
  showChatDisabled(title ?? chat, reason);
}

/** @param {string} chat @param {string} [reason] */
export function showChatDisabled(chat, reason) {
  notice("chat", "warning", "phone", say("notice.chat", { chat: chat ?? "" }), `${say("notice.chatWhy")} ${reason ?? ""}`);
}

/** Takes it into what is known, and shows it. @param {import("./vestnik.js").VestnikEvent} event */
function take(event) {
  const became = apply(event);
  if (!became) return null;
  const { item } = became;
  settle(item.key);
  if (item.status !== "pending") {
    live.ringer.silence(item.key);
    eventOf.delete(item.key);
  }
  update(item.key);
  showAlarm();
  return became;
}

/** Now, or when the replay is over. @param {import("./vestnik.js").VestnikEvent} event @param {() => void} alert */
function tell(event, alert) {
  const once = () => {
    alerted.set(event.id, (alerted.get(event.id) ?? 0) + 1);
    alert();
  };
  if (!event.replayed) return once();
  waiting.push(once);
  if (waiting.length === 1) setTimeout(tellWaiting, REPLAY_PATIENCE_MS);
}

/** The replay is over. */
export function tellWaiting() {
  const told = waiting;
  waiting = [];
  told.forEach((alert) => alert());
}

/** @param {import("./orders.js").Item} item */
function ring(item) {
  toldOf.add(item.key);
  if (item.event) eventOf.set(item.key, item.event);
  live.ringer.ring(item.key, item.kind === "orders" ? "order" : "booking");
  showAlarm();
}

/** After the lists were loaded: what waits rings, and nothing else does. */
export function alertWhatWaits() {
  const keys = new Set(unanswered().map((item) => item.key));
  [...live.ringer.ringing.keys()].filter((key) => /^(orders|bookings)/.test(key) && !keys.has(key)).forEach((key) => live.ringer.silence(key));
  items.forEach((item) => toldOf.add(item.key));
  unanswered().forEach((item) => {
    if (!live.ringer.ringing.has(item.key)) ring(item);
    if (item.event) proveRendered({ id: item.event });
  });
  showAlarm();
}

/** Their sound really played. @param {string[]} keys */
export function proveRung(keys) {
  keys.forEach((key) => {
    const event = eventOf.get(key);
    if (event) live.connection?.rung(event);
    // Once is enough: what rings on is not told each time.
    eventOf.delete(key);
  });
}

/** It stands on the screen when the browser has painted; a hidden page has no screen. @param {{id: string}} event */
function proveRendered({ id }) {
  if (document.hidden) return unseen.add(id);
  requestAnimationFrame(() =>
    setTimeout(() => {
      live.connection?.rendered(id);
      const began = performance.getEntriesByName(`vestnik:received:${id}`, "mark").at(-1);
      if (began) performance.measure(`vestnik:painted:${id}`, { start: began.startTime, end: performance.now() });
      performance.clearMarks(`vestnik:received:${id}`);
      // An evening has thousands of them.
      if (performance.getEntriesByType("measure").length > MEASURES) performance.clearMeasures();
    }),
  );
}

let alarmShows = "";
/** The bar that cannot be overlooked: what waits, and what was taken back. */
export function showAlarm() {
  const bar = at("alarm");
  const orders = unanswered().filter((item) => item.kind === "orders");
  const bookings = unanswered().filter((item) => item.kind === "bookings");
  const shows = [...orders, ...bookings, ...[...cancelled.values()].map(({ item }) => item)].map((item) => item.key + item.status).join();
  if (shows === alarmShows) return;
  alarmShows = shows;
  bar.replaceChildren(...[...cancelled.values()].map(cancelledRow), ...[waitingRow(orders, "orders"), waitingRow(bookings, "bookings")].filter(Boolean));
  document.dispatchEvent(new Event("vestnik:alarm"));
  const loudest = cancelled.size ? "cancelled" : orders.length ? "order" : bookings.length ? "booking" : "";
  // Set again, even to the same, it would have the style of every card looked at anew.
  if (document.body.dataset.alarm !== loudest) document.body.dataset.alarm = loudest;
}

/** @param {import("./orders.js").Item[]} waits @param {string} kind */
function waitingRow(waits, kind) {
  if (!waits.length) return null;
  const sorted = waits.sort((a, b) => a.since - b.since || Number(a.id) - Number(b.id));
  const numbers = sorted.slice(0, NAMED).map((item) => `#${item.id}`).join(", ") + (sorted.length > NAMED ? " …" : "");
  const words = h("p", {}, h("strong", { text: say(`alarm.${kind}`, { n: waits.length }) }), h("span", { text: numbers }));
  return h("div", { class: `alarm-row alarm-${kind}` }, icon(kind === "orders" ? "bell" : "table"), words, button("", null, say("alarm.show"), () => reveal(sorted[0].key)));
}

/** @param {{item: import("./orders.js").Item}} row */
function cancelledRow({ item }) {
  const title = say(item.kind === "orders" ? "alert.orderCancelled" : "alert.bookingCancelled", { id: item.id });
  const words = h("p", {}, h("strong", { text: title }), h("span", { text: [say("alarm.stop"), item.reason].filter(Boolean).join(" · ") }));
  return h("div", { class: "alarm-row alarm-cancelled" }, icon("stop"), words, button("", "check", say("alarm.noticed"), () => noticed(item.key)));
}

/** Somebody has noticed that it was taken back. @param {string} key */
function noticed(key) {
  const { event } = cancelled.get(key);
  if (event) live.connection?.ack(event);
  cancelled.delete(key);
  live.ringer.silence(`cancelled/${key}`);
  unnotify(key);
  showAlarm();
}
