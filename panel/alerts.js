/**
 * Plays sounds, shows notifications and reports receipts when an event arrives.
 *
 * An order rings until a person accepts or rejects it, on any panel, in Telegram, or in the shop's own program. An
 * event causes an alert, but an order rings only if its status is `pending`. So a repeated event or a reload of the
 * page causes no wrong ring.
 *
 * @module alerts
 */

import { countOne, showAlarm, takenBack } from "./alarmbar.js";
import { notify, vibrate, closeNotification } from "./device.js";
import { changedOf, idOf, now, numberOf, personsOf, spokenOf, totalOf, typeOf } from "./facts.js";
import { dayAndTime, t } from "./i18n.js";
import { connectionOf, live, storeNotice } from "./connection.js";
import { forgetMinutes } from "./minutes.js";
import { apply, items, subject, unanswered } from "./orders.js";
import { setPause } from "./pause.js";
import { printIfDue } from "./autoprint.js";
import { proveRendered } from "./rendered.js";
import { giveToEverybody, isOwn, isShown, takeFromEverybody } from "./stations.js";
import { handleStock } from "./stock.js";
import { announce, dropToast, toast } from "./toast.js";
import { pressed } from "./actions.js";

/** Alerts of replayed events wait for the end of the replay, but no longer than this time. */
const REPLAY_PATIENCE_MS = 2_000;
/** How often the page checks whether an order or booking has waited too long. */
const LATE_LOOK_MS = 2_000;
/** How often the page asks the server whether a person has noticed a cancellation on another panel. */
const NOTICED_LOOK_MS = 2_000;
/** The page silences the sound of a changed order after this time, because that sound must play only once. */
const ONCE_MS = 1_500;

/** @typedef {import("./orders.js").Item} Item */
/** @typedef {import("./vestnik.js").VestnikEvent} VestnikEvent */

/** Draws a changed order or booking; {@link setUpAlerts} sets this function. @type {(key: string, isOurs: boolean) => void} */
let update = () => {};
/** Alerts of replayed events; they run after the replay, when the final status of each order is known. @type {(() => void)[]} */
let waiting = [];
/** The keys of the orders and bookings to which this page has alerted the kitchen. @type {Set<string>} */
const alertedKeys = new Set();
/** For the key of each sound: the event that the page reports as sounded when the sound has played. @type {Map<string, {store: string, event: string}>} */
const eventOf = new Map();

/** The number of alerts that each event has caused, by event id. Tests check that no number is 2. */
export const alerted = new Map();
/** The most events in `alerted`. */
const COUNTED = 2_000;

/** @param {(key: string, isOurs: boolean) => void} changed called when an order or booking has changed */
export function setUpAlerts(changed) {
  update = changed;
  setInterval(ringHarder, LATE_LOOK_MS);
  setInterval(lookWhatWasNoticed, NOTICED_LOOK_MS);
  document.addEventListener("vestnik:cook", (event) => callToCook(items.get(event.detail)));
}

/** Handles each event from the server. @param {VestnikEvent} event */
export function handleEvent(event) {
  performance.mark(`vestnik:received:${event.id}`);
  const handle = {
    new_order: handleNewOrderNotification,
    new_booking: handleNewBookingNotification,
    order_status_changed: handleOrderStatusChanged,
    booking_status_changed: handleOrderStatusChanged,
    order_cancelled: handleTakenBack,
    booking_cancelled: handleTakenBack,
    order_removed: handleTakenBack,
    booking_removed: handleTakenBack,
    order_changed: handleChanged,
    booking_changed: handleChanged,
    order_unanswered: handleUnanswered,
    chat_disabled: handleChatDisabled,
    store_paused: handlePause,
    store_resumed: handlePause,
    item_out_of_stock: handleStock,
    item_in_stock: handleStock,
  }[event.type];
  handle?.(event);
  tellOverwritten(event);
  performance.measure(`vestnik:handled:${event.id}`, `vestnik:received:${event.id}`);
  const about = subject(event);
  const item = about && items.get(about.key);
  // This screen reports no `rendered` receipt for an order that it does not show.
  if (item && !isShown(item)) performance.clearMarks(`vestnik:received:${event.id}`);
  else proveRendered({ id: event.id, store: event.store_id, key: about?.key });
}

/** Handles a new order, or a closed order that the shop has opened again. @param {VestnikEvent} event */
export const handleNewOrderNotification = (event) =>
  handleNew(event, (item) => ({
    title: t(event.data.previous_status ? "alert.orderAgain" : "alert.newOrder", { number: numberOf(item), id: idOf(item) }),
    words: [typeOf(item), item.customer_name, totalOf(item)],
    shakes: [400, 150, 400],
  }));

/** Handles a new booking, or a closed booking that the shop has opened again. @param {VestnikEvent} event */
export const handleNewBookingNotification = (event) =>
  handleNew(event, (item) => ({
    title: t(event.data.previous_status ? "alert.bookingAgain" : "alert.newBooking", { number: numberOf(item), id: idOf(item) }),
    words: [item.starts_at && dayAndTime(item.starts_at), personsOf(item), item.customer_name],
    shakes: [250],
  }));

/**
 * Tells people about a new order or booking, with sound, screen reader, notification, vibration and a printed ticket.
 * @param {VestnikEvent} event
 * @param {(item: Item) => {title: string, words: any[], shakes: number[]}} describe
 */
function handleNew(event, describe) {
  const became = take(event);
  if (!became) return;
  if (became.item.kind === "orders" && !event.data.previous_status) countOne(became.item.store);
  dropTakenBack([became.item.key]);
  tell(event, () => {
    const item = items.get(became.item.key);
    // An order of another station does not ring here: it rings on the screen of that station.
    if (item?.status !== "pending" || !isOwn(item)) return;
    ring(item);
    const { title, words, shakes } = describe(item);
    const detail = words.filter(Boolean).join(" · ");
    announce(`${title}. ${[detail, spokenOf(item)].filter(Boolean).join(". ")}`);
    notify(title, detail, item.key);
    vibrate(shakes);
    printIfDue(item);
  });
}

/** Handles a change of status, by a panel or by the shop's own program. @param {VestnikEvent} event */
export function handleOrderStatusChanged(event) {
  const became = take(event);
  if (!became) return;
  const { item, previous } = became;
  if (!items.has(item.key)) alertedKeys.delete(item.key);
  if (previous?.status === "pending" && item.status !== "pending") {
    closeNotification(item.key);
    forgetMinutes(item.key);
    printIfDue(item);
  }
  if (item.status === "pending") {
    // The status is `pending` again, so a person has to answer again.
    tell(event, () => items.get(item.key)?.status === "pending" && ring(item));
    return;
  }
  if (event.replayed || !isOwn(item)) return;
  announce(t("alert.status", { number: numberOf(item), status: t(`status.${item.kind}.${item.status}`) }));
}

/** Handles a cancelled or removed order or booking: the kitchen must stop. @param {VestnikEvent} event */
export function handleTakenBack(event) {
  const became = take(event);
  if (!became) return;
  const { item, previous } = became;
  closeNotification(item.key);
  // The order was already closed, or belongs to another station, or this page has not alerted the kitchen to it. So the
  // kitchen of this screen has nothing to stop.
  if (!previous || !isOwn(previous) || (event.replayed && !alertedKeys.has(item.key))) return;
  alertedKeys.delete(item.key);
  const isRemoved = event.type.endsWith("_removed");
  tell(event, () => alertTakenBack(item, previous.status, isRemoved, event.id));
}

/**
 * @param {Item} item
 * @param {string} was its status before
 * @param {boolean} isRemoved
 * @param {string} [event] id of the event; absent if only the lists show the cancellation
 */
export function alertTakenBack(item, was, isRemoved, event) {
  const title = t(`alarm.${isRemoved ? "removed" : "cancelled"}.${item.kind}`, { number: numberOf(item) });
  announce(`${title}. ${item.reason ?? ""}`);
  // Nobody has begun to cook a pending order, so a message without sound is enough.
  if (was === "pending") return toast(title, { detail: item.reason, sign: "stop", about: item.key });
  takenBack.set(item.key, { item, event, isRemoved });
  if (event) eventOf.set(`cancelled/${item.key}`, { store: item.store, event });
  live.ringer.ring(`cancelled/${item.key}`, "cancelled");
  notify(title, item.reason ?? "", item.key);
  vibrate([900, 200, 900]);
  showAlarm();
}

/** Handles a change of fields that the kitchen sees. @param {VestnikEvent} event */
export function handleChanged(event) {
  const became = take(event);
  if (!became) return;
  const { item, previous } = became;
  // If the shop has removed a dish of this station from the order, the station must learn of it too.
  if (!isOwn(item) && !(previous && isOwn(previous))) return;
  const marks = (event.data.changed ?? []).filter((name) => item.marks?.includes(name));
  if (!marks.length) return;
  tell(event, () => {
    const words = t("alert.changed", { number: numberOf(item), fields: changedOf({ ...item, marks }) });
    announce(words);
    // A pending order rings already, so it needs no second sound.
    if (item.status === "pending") return;
    eventOf.set(`changed/${item.key}`, { store: item.store, event: event.id });
    live.ringer.ring(`changed/${item.key}`, "changed");
    vibrate([200]);
  });
}

/** Tells people that the shop's application has overwritten their answer with an old row. @param {VestnikEvent} event */
function tellOverwritten(event) {
  const answer = event.data?.overwritten_answer;
  const about = answer && subject(event);
  const item = about && items.get(about.key);
  if (item && !event.replayed && isOwn(item)) import("./actionfailure.js").then((failure) => failure.tellOverwritten(item, answer));
}

/** Handles an order that nobody has answered in time: it rings again, with the urgent sound. @param {VestnikEvent} event */
export function handleUnanswered(event) {
  const about = subject(event);
  const item = about && items.get(about.key);
  if (item?.status !== "pending") return;
  countAlert(event);
  callEverybody(item);
  eventOf.set(item.key, { store: item.store, event: event.id });
  urge(item);
}

/** Makes late orders ring urgently. The page checks the time itself, because the `order_unanswered` event may not arrive. */
function ringHarder() {
  const isLate = (item) => item.kind === "orders" && item.status === "pending" && now() - item.since > live.stores.get(item.store)?.answerMs;
  for (const item of [...items.values()].filter(isLate)) {
    if (callEverybody(item) || live.ringer.ringing.get(item.key) === "order") urge(item);
  }
}

/** Shows the order of another station on this screen too, because that station has not answered in time. @param {Item} item */
function callEverybody(item) {
  if (!giveToEverybody(item)) return false;
  alertedKeys.add(item.key);
  update(item.key, false);
  if (item.event) {
    eventOf.set(item.key, { store: item.store, event: item.event });
    proveRendered({ id: item.event, store: item.store, key: item.key });
  }
  return true;
}

/** Alerts the kitchen when it must start to cook an order for a later time. @param {Item} item */
function callToCook(item) {
  const title = t("alert.cook", { number: numberOf(item) });
  announce(title);
  notify(title, "", item.key);
  toast(title, { sign: "clock", about: item.key, detail: item.due_at && t("time.at", { time: dayAndTime(item.due_at) }) });
  live.ringer.ring(`changed/${item.key}`, "changed");
}

/** Rings urgently for an order that nobody has answered in time. @param {Item} item */
function urge(item) {
  if (live.ringer.ringing.get(item.key) !== "urgent") announce(t("alert.unanswered", { number: numberOf(item) }));
  live.ringer.ring(item.key, "urgent");
  vibrate([200, 100, 200, 100, 200]);
  showAlarm();
}

/** Handles a store that was paused or resumed. @param {VestnikEvent} event */
export function handlePause(event) {
  setPause(event.store_id, event.type === "store_paused" ? event.data : null);
}

/** Handles a Telegram chat that was disabled. @param {VestnikEvent} event */
export function handleChatDisabled(event) {
  const { title, chat, reason } = event.data;
  showChatDisabled(event.store_id, title ?? chat, reason);
}

/** Shows a notice that the bot can no longer write to a Telegram chat. @param {string} store @param {string} chat @param {string} [reason] */
export function showChatDisabled(store, chat, reason) {
  storeNotice(store, "chat", "warning", "phone", t("notice.chat", { chat: chat ?? "" }), `${t("notice.chatWhy")} ${reason ?? ""}`);
}

/** Applies an event to the known orders and bookings, and updates the page. Returns null if the event changes nothing. @param {VestnikEvent} event */
function take(event) {
  const became = apply(event);
  if (!became) return null;
  const { item, previous, isUnknown } = became;
  const isOurs = pressed.delete(item.key);
  if (items.get(item.key)?.status !== "pending") {
    live.ringer.silence(item.key);
    eventOf.delete(item.key);
    takeFromEverybody(item.key);
  }
  if (!items.has(item.key)) forgetMinutes(item.key);
  if (previous?.status !== item.status) dropToast(item.key);
  update(item.key, isOurs);
  if (isUnknown) connectionOf(item.store)?.reload("unknown_order");
  return became;
}

/** Counts an alert of an event. @param {VestnikEvent} event */
function countAlert({ id }) {
  alerted.set(id, (alerted.get(id) ?? 0) + 1);
  if (alerted.size > COUNTED) alerted.delete(alerted.keys().next().value);
}

/** Runs an alert now, or at the end of the replay. @param {VestnikEvent} event @param {() => void} alert */
function tell(event, alert) {
  const once = () => {
    countAlert(event);
    alert();
  };
  if (!event.replayed) return once();
  waiting.push(once);
  if (waiting.length === 1) setTimeout(flushReplayedAlerts, REPLAY_PATIENCE_MS);
}

/** Runs the alerts that waited for the end of the replay. */
export function flushReplayedAlerts() {
  const told = waiting;
  waiting = [];
  told.forEach((alert) => alert());
}

/** Rings for an order or booking that belongs to this screen. @param {Item} item */
function ring(item) {
  if (!isOwn(item)) return;
  alertedKeys.add(item.key);
  if (item.event) eventOf.set(item.key, { store: item.store, event: item.event });
  live.ringer.ring(item.key, item.kind === "orders" ? "order" : "booking");
  showAlarm();
}

/** Rings for each order and booking that waits for an answer, and silences all others. Called after the lists were loaded. */
export function syncRinging() {
  // An order on a saved board may be closed by now, so it does not ring.
  const isKnown = (item) => !live.stores.get(item.store)?.keptAt;
  const waits = unanswered().filter(isKnown);
  const keys = new Set(waits.map((item) => item.key));
  [...live.ringer.ringing.keys()].filter((key) => /^(orders|bookings)\//.test(key) && !keys.has(key)).forEach((key) => live.ringer.silence(key));
  items.forEach((item) => alertedKeys.add(item.key));
  waits.forEach((item) => {
    if (!live.ringer.ringing.has(item.key)) ring(item);
    if (item.event) proveRendered({ id: item.event, store: item.store, key: item.key });
  });
  [...items.values()].filter(isKnown).forEach(printIfDue);
  showAlarm();
}

/** Reports to the server that the sounds for these keys have played. @param {string[]} keys keys of {@link eventOf} */
export function proveRung(keys) {
  keys.forEach((key) => {
    const { store, event } = eventOf.get(key) ?? {};
    if (event) connectionOf(store)?.sounded(event);
    // Report each event once, and not in every round of its sound.
    eventOf.delete(key);
    if (key.startsWith("changed/")) setTimeout(() => live.ringer.silence(key), ONCE_MS);
  });
}

/** Records that a person has noticed these cancellations. @param {string[]} keys */
export function noticed(keys) {
  keys.map((key) => takenBack.get(key)).forEach(({ event, item }) => event && connectionOf(item.store)?.ack(event));
  dropTakenBack(keys);
}

/** If a person has noticed a cancellation on another panel, silences it on this panel. */
async function lookWhatWasNoticed() {
  for (const [key, { event, item }] of [...takenBack]) {
    const word = event && (await connectionOf(item.store)?.api.acknowledgement(event).catch(() => null));
    if (word?.acknowledged && takenBack.get(key)?.event === event) dropTakenBack([key]);
  }
}

/** Removes cancellations from the strip, and silences them. @param {string[]} keys */
function dropTakenBack(keys) {
  for (const key of keys.filter((key) => takenBack.delete(key))) {
    live.ringer.silence(`cancelled/${key}`);
    closeNotification(key);
  }
  showAlarm();
}
