/**
 * The panel: puts the page together. One file a noun; the wire is in vestnik.js, which knows nothing of the page.
 *
 * `window.vestnik` shows the inside to who looks for a fault, or writes a test: `connection` (its state, its cursor),
 * `ringer` (the audio graph: everything that sounds goes through `ringer.master`), `items` (what is open) and `alerted`
 * (how many alerts there were for each event: never two).
 *
 * @module panel
 */

import { alerted, alertWhatWaits, alertWhatWasTakenBack, handleEvent, proveRung, setUpAlerts, showAlarm, showChatDisabled, tellWaiting } from "./alerts.js";
import { showBadge } from "./badge.js";
import { Board } from "./board.js";
import { keepAwake, keepShell } from "./device.js";
import { at, button } from "./dom.js";
import { setUpHistory, showHistory } from "./history.js";
import { loadLanguage, say, setStore } from "./i18n.js";
import { connect, isReached, live, notice, showLight, unnotice } from "./live.js";
import { items, load, unanswered } from "./orders.js";
import { openOrder, refreshOrder, setUpOrder } from "./order.js";
import { setUpPreferences, showKnownGrants } from "./preferences.js";
import { applyTheme, isStarted, keepKey, keptKey, setStarted, settings, takeKeyFromAddress } from "./settings.js";
import { setUpShift, showShift } from "./shift.js";
import { perform, Ringer } from "./sound.js";
import { setTicketStore } from "./ticket.js";
import { onPressed } from "./work.js";

/** After another panel has accepted an order, its preparation time is in the lists only. */
const ANSWERS_AFTER_MS = 500;

/** @type {Board} */
let orders;
/** @type {Board} */
let bookings;

// Before anything else: what the address has must not stay there.
const linked = takeKeyFromAddress();
applyTheme();
live.ringer = new Ringer(proveRung, showSound);
Object.assign(window, { vestnik: { get connection() { return live.connection; }, get ringer() { return live.ringer; }, items, alerted, perform } });
start();

async function start() {
  await loadLanguage();
  orders = new Board(at("board-orders"), "orders", openOrder);
  bookings = new Board(at("board-bookings"), "bookings", openOrder);
  setUpOrder();
  setUpHistory();
  setUpAlerts({ update, reveal });
  setUpShift(begin);
  setUpPreferences(redraw);
  onPressed(redrawOne);
  document.addEventListener("vestnik:minutes", showMinutes);
  document.querySelectorAll("[data-view-of]").forEach((tab) => tab.addEventListener("click", () => show(tab.dataset.viewOf)));
  addEventListener("hashchange", () => {
    const key = takeKeyFromAddress();
    if (key) reopen(key);
  });
  // A browser gives sound back at a press, whatever is pressed.
  // A finger counts as a press when it is lifted.
  for (const press of ["pointerup", "touchend", "keydown"]) addEventListener(press, unlockAgain, { capture: true });
  keepShell();
  const kept = keptKey();
  if (!linked && kept && isStarted()) begin(kept);
  else showShift(linked ?? kept);
}

/** A link that was opened in a page that has a store already. @param {import("./settings.js").Key} key */
function reopen(key) {
  if (!live.connection) return showShift(key);
  // Anew: what is known is another store's.
  live.connection.close();
  keepKey(key, false);
  setStarted(false);
  location.reload();
}

/** The store is open. @param {import("./settings.js").Key} key */
async function begin(key) {
  live.connection?.close();
  show("orders");
  connect(key, { onEvent, onState, load: loadLists });
  // After a reload nobody has pressed anything: some browsers give sound all the same.
  live.ringer.unlock().then(showSound);
  keepAwake();
  describeStore(key);
}

/** @param {import("./settings.js").Key} key */
async function describeStore(key) {
  const known = await live.connection.api.store().catch(() => null);
  const name = known?.name || say("bar.store", { store: key.store });
  at("store-name").textContent = name;
  setTicketStore(name);
  if (!known) return;
  setStore(known);
  redraw();
  for (const { chat, title, reason } of known.chats_disabled ?? []) showChatDisabled(title ?? chat, reason);
  if (known.telegram === "stopped") notice("telegram", "warning", "phone", say("notice.telegram"), say("notice.telegramWhy"));
}

/** @param {string|null} why */
async function loadLists(why) {
  const before = [...items.values()];
  const cursor = await load(live.connection.api);
  redraw();
  alertWhatWaits();
  alertWhatWasTakenBack(before.filter((item) => !items.has(item.key)));
  if (why) console.info(`the lists were loaded anew: ${why}`);
  return cursor;
}

let answersTimer = 0;
/** @param {import("./vestnik.js").VestnikEvent} event */
function onEvent(event) {
  handleEvent(event);
  if (event.type !== "order_status_changed" || event.data.status !== "preparing") return;
  clearTimeout(answersTimer);
  answersTimer = setTimeout(loadAnswers, ANSWERS_AFTER_MS);
}

/** Who accepted, and in how many minutes: what an event does not say. */
async function loadAnswers() {
  const list = await live.connection?.api.list("orders", { status: "preparing", limit: 500 }).catch(() => null);
  for (const { id, status, answer } of list?.orders ?? []) {
    const item = items.get(`orders/${id}`);
    if (!item || item.status !== status || !answer || item.answer?.at === answer.at) continue;
    item.answer = answer;
    redrawOne(item.key);
  }
}

/** @param {import("./vestnik.js").State} state */
function onState(state) {
  if (state.name !== "catching_up") tellWaiting();
  showCount();
}

/** One of them has changed. @param {string} key */
function update(key) {
  redrawOne(key);
  showCount();
}

/** @param {string} key */
function redrawOne(key) {
  (key.startsWith("orders/") ? orders : bookings).update(key);
  refreshOrder(key);
}

/** Everything anew: other lists, or another language. */
function redraw() {
  orders.render();
  bookings.render();
  showAlarm();
  showCount();
  showSound();
  showLight();
}

function showMinutes() {
  document.querySelectorAll('.card[data-status="pending"][data-kind="orders"] .yes span').forEach((word) => (word.textContent = say("order.acceptIn", { n: settings.minutes })));
}

function showCount() {
  const waiting = unanswered();
  showBadge(waiting.length, !live.connection || isReached());
  for (const kind of ["orders", "bookings"]) {
    const count = waiting.filter((item) => item.kind === kind).length;
    at(`badge-${kind}`).textContent = count ? String(count) : "";
  }
}

/** @param {string} view */
function show(view) {
  document.body.dataset.view = view;
  document.querySelectorAll("[data-view-of]").forEach((tab) => {
    if (tab.dataset.viewOf === view) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  });
  if (view === "history") showHistory();
  if (view === "settings") showKnownGrants();
}

/** Shows what rings, wherever the person is. @param {string} key */
function reveal(key) {
  const kind = key.startsWith("orders/") ? "orders" : "bookings";
  show(kind);
  (kind === "orders" ? orders : bookings).reveal(key);
}

function unlockAgain() {
  if (live.connection && !live.ringer.sounds) live.ringer.unlock();
}

/** Says aloud whether it can ring: to the person, and to the server. */
function showSound() {
  const { ringer, connection } = live;
  connection?.setRings(ringer.sounds);
  document.body.classList.toggle("ringing", ringer.ringing.size > 0);
  if (!connection || ringer.sounds) return unnotice("sound");
  if (ringer.answer === "missing") return notice("sound", "problem", "mute", say("grant.sound.missing"), say("notice.soundMissing"));
  notice("sound", "problem", "mute", say("notice.sound"), say("notice.soundWhy"), button("", "sound", say("notice.soundOn"), () => ringer.unlock()));
}
