/**
 * The entry point of the panel: connects the modules. Each module has one subject. The module vestnik.js exchanges
 * messages with the server, and does not change the page.
 *
 * `window.vestnik` shows internal objects to a developer or a test: `connection` (its state, its cursor), `stores`,
 * `ringer` (all sounds go through `ringer.master`), `items` (open orders and bookings), `settings`, and `alerted` (the
 * number of alerts of each event, never two).
 *
 * @module panel
 */

import { setUpAlarm, showAlarm, showCalm } from "./alarmbar.js";
import { alerted, syncRinging, handleEvent, noticed, proveRung, setUpAlerts, showChatDisabled, flushReplayedAlerts } from "./alerts.js";
import { Board } from "./board.js";
import { keepAwake, keepShell } from "./device.js";
import { byId, button, say } from "./dom.js";
import { oncePerFrame } from "./frame.js";
import { holdBack, setUpGuard } from "./leaveguard.js";
import { loadLanguage, t, setZone } from "./i18n.js";
import { keepBoard, restoreBoard } from "./savedboard.js";
import { clearNotice, clearStoreNotice, connect, disconnect, isReached, live, notice, showLight, storeName, storeNotice } from "./connection.js";
import { find, items, kindOf, load, loadAhead, unanswered } from "./orders.js";
import { setPause, showPause } from "./pause.js";
import { setUpRendered } from "./rendered.js";
import { applyTheme, change, isStarted, keptKey, keysOf, settings, takeKeyFromAddress } from "./settings.js";
import { setUpShift, showRefused, showShift } from "./shift.js";
import { perform, Ringer } from "./sound.js";
import { learnStock, showStock } from "./stock.js";
import { setUpTools } from "./toolstrip.js";
import { Api } from "./vestnik.js";
import { onPressed, restorePresses, sendQueued } from "./actions.js";

/** After the first orders are shown, the page waits this long before it loads modules and facts that those orders did not need. */
const SETTLE_MS = 500;

/** @type {readonly import("./orders.js").Kind[]} */
const KINDS = ["orders", "bookings"];

/** @type {Record<import("./orders.js").Kind, Board>} */
let boards;

/** @typedef {import("./connection.js").Opened} Opened */

// Take the key first, because it must not stay in the address bar.
const linked = takeKeyFromAddress();
applyTheme();
live.ringer = new Ringer(proveRung, showSound);
Object.assign(window, { vestnik: { get connection() { return live.connection; }, get ringer() { return live.ringer; }, stores: live.stores, items, settings, alerted, perform } });
start();

async function start() {
  const kept = keptKey();
  const goesOn = !linked && kept && isStarted(kept);
  if (goesOn) keysOf(kept).forEach((key) => loadAhead(new Api(key)));
  await loadLanguage();
  boards = {
    orders: new Board(byId("board-orders"), "orders", openOrder, () => boards && showAlarm()),
    bookings: new Board(byId("board-bookings"), "bookings", openOrder, () => boards && showAlarm()),
  };
  setUpRendered((key) => boards[kindOf(key)].hasCard(key));
  document.addEventListener("vestnik:looked", ({ detail: key }) => redrawOne(key, true));
  byId("find-open").addEventListener("click", () => import("./search.js").then(({ showFind }) => showFind()));
  byId("all-day-open").addEventListener("click", () => {
    change({ allDay: !settings.allDay });
    showAllDay();
  });
  document.addEventListener("vestnik:tick", () => settings.allDay && showAllDay());
  setUpGuard(show);
  setUpTools();
  byId("pause-open").addEventListener("click", () => import("./pausedialog.js").then(({ askForPause }) => askForPause()));
  byId("stock-open").addEventListener("click", () => import("./stockdialog.js").then(({ openStock }) => openStock()));
  document.addEventListener("vestnik:tick", showStock);
  byId("stations-open").addEventListener("click", () => import("./stationdialog.js").then(({ askForStations }) => askForStations()));
  document.addEventListener("vestnik:look", () => {
    redraw();
    if (document.body.dataset.view === "history") show("history");
  });
  document.addEventListener("vestnik:stations", () => {
    redraw();
    syncRinging();
  });
  setUpAlerts(update);
  setUpAlarm({ reveal, noticed, isInSight: (key) => boards[kindOf(key)].inSight.has(key), showsNew: (kind) => boards[kind].showsNew() });
  setUpShift(begin, redraw);
  live.ringer.setVolume(settings.volume);
  onPressed((key) => redrawOne(key, true));
  document.addEventListener("vestnik:print", ({ detail: key }) => find(key) && redrawOne(key, true));
  document.addEventListener("vestnik:key", (event) => showShift(keptKey(), event.detail));
  document.querySelectorAll("[data-view-of]").forEach((tab) => tab.addEventListener("click", () => show(tab.dataset.viewOf)));
  addEventListener("hashchange", () => {
    const key = takeKeyFromAddress();
    if (key && live.connection) import("./endshift.js").then(({ takeOver }) => takeOver(key));
    else if (key) showShift(key);
  });
  // After a reload, a browser allows sound only at the next press. A touch counts as a press when the finger is
  // lifted.
  for (const press of ["pointerup", "touchend", "keydown"]) addEventListener(press, unlockAgain, { capture: true });
  addEventListener("click", swallow, { capture: true });
  if (goesOn) begin(kept);
  else showShift(linked ?? kept);
}

/** Shows the dishes that must be cooked now. */
const showAllDay = () => import("./allday.js").then((allDay) => allDay.showAllDay());

/** Starts the shift: opens the stores of the key. @param {import("./settings.js").Key} key */
async function begin(key) {
  disconnect();
  keysOf(key).forEach((each) => connect(each, { onEvent: handleEvent, onState, load: loadLists }));
  items.forEach((item) => live.stores.has(item.store) || items.delete(item.key));
  showLight();
  restorePresses();
  showKept();
  holdBack();
  show("orders");
  // Try to unlock the sound now: some browsers allow this after a reload, without a press.
  live.ringer.unlock().then(showSound);
  keepAwake().then(showCalm);
  live.stores.forEach(describeStore);
}

/**
 * The functions that update the badge, the bar of stations and the bar of stores; null until their modules are loaded.
 * @type {{showBadge: typeof import("./badge.js").showBadge, showStationBar: () => void, showStoreBar: () => void}|null}
 */
let beside = null;

async function bringBeside() {
  if (beside) return;
  const [{ showBadge }, { showStationBar }, { showStoreBar }] = await Promise.all([import("./badge.js"), import("./stationbar.js"), import("./storebar.js")]);
  beside = { showBadge, showStationBar, showStoreBar };
  showCount();
}

/** Loads the modules and facts that are not necessary to show the first orders. @param {Opened} opened */
function afterFirstLoad(opened) {
  if (live.stores.get(opened.store) !== opened) return;
  learnScope(opened);
  learnStock(opened);
  import("./today.js").then(({ countToday }) => countToday(opened));
  keepShell();
  bringBeside();
}

/** Shows the saved board until the lists are loaded. */
function showKept() {
  if (items.size) return;
  restoreBoard();
  markKept();
  if (items.size) redraw();
}

/** Marks the page if it shows the saved boards of all stores. */
const markKept = () => document.body.toggleAttribute("data-kept", [...live.stores.values()].every(({ keptAt }) => keptAt));

/** Asks the server for the scope of the key. If the key may only read, the page shows no buttons. @param {Opened} opened */
async function learnScope(opened) {
  const known = await opened.connection.api.session().catch(() => null);
  if (known?.scope) opened.scope = known.scope;
  showScope();
  if (document.body.dataset.view === "history") show("history");
}

/** Applies the scope of the store that is selected in the panel. If the key of any store allows changes, the page keeps its buttons. */
function showScope() {
  const isReadOnly = [...live.stores.values()].every(({ scope }) => scope === "read");
  document.body.dataset.scope = live.scope === "read" && !isReadOnly ? "panel" : live.scope;
}

/** Loads the description of a store, and shows it. @param {Opened} opened */
async function describeStore(opened) {
  const card = await opened.connection.api.store().catch(() => null);
  if (card) opened.card = card;
  showStore();
  if (!card) return;
  opened.answerMs = card.answer_seconds * 1000;
  setPause(opened.store, card.pause);
  // The page has one time zone: the zone of the first store.
  const isFirst = live.stores.values().next().value === opened;
  if ((isFirst && setZone(card.time_zone)) || live.stores.size > 1) redraw();
}

/** Shows the descriptions of the stores, in the current language. */
function showStore() {
  if (!live.connection) return;
  byId("store-name").textContent = [...live.stores.keys()].map(storeName).join(", ");
  for (const { store, card } of live.stores.values()) {
    for (const { chat, title, reason } of card?.chats_disabled ?? []) showChatDisabled(store, title ?? chat, reason);
    if (card?.telegram === "stopped") storeNotice(store, "telegram", "warning", "phone", t("notice.telegram"), t("notice.telegramWhy"));
  }
}

/** Shows the first orders at once, before the bookings are loaded. */
function showOrders() {
  boards.orders.render();
  showCount();
}

/** Loads the lists of a store, and draws them. Returns the cursor of the lists. @param {Opened} opened @param {string|null} why */
async function loadLists(opened, why) {
  const { store, isSettled } = opened;
  opened.before ??= [...items.values()].filter((item) => item.store === store);
  const { cursor, unavailable } = await load(opened.connection.api, isSettled ? null : showOrders);
  const gone = opened.before.filter((item) => !items.has(item.key));
  opened.before = null;
  const wasKept = opened.keptAt !== null;
  opened.keptAt = null;
  markKept();
  redraw(isSettled || wasKept ? KINDS : ["bookings"]);
  syncRinging();
  if (gone.length) import("./missedcancellations.js").then(({ alertMissedCancellations }) => alertMissedCancellations(store, gone));
  if (unavailable.length) storeNotice(store, "unavailable", "problem", "stop", t("notice.unavailable"), t("notice.unavailableWhy", { sources: unavailable.join(", ") }));
  else clearStoreNotice(store, "unavailable");
  if (why) console.info(`the lists were loaded anew: ${why}`);
  // Load the dialog and its modules now, so that they can report a failure while the network is lost.
  import("./order.js");
  if (!isSettled) setTimeout(() => afterFirstLoad(opened), SETTLE_MS);
  else describeStore(opened).then(() => learnStock(opened));
  opened.isSettled = true;
  return cursor;
}

/** Handles a new state of a connection. @param {Opened} opened */
function onState({ store, connection: { state } }) {
  if (![...live.stores.values()].some(({ connection }) => connection.state.name === "catching_up")) flushReplayedAlerts();
  if (state.name === "live" || state.name === "polling") sendQueued(store);
  if (state.name === "offline" || state.name === "stopped") bringBeside();
  showCount();
  showCalm();
}

/** The keys of changed orders and bookings that are not drawn yet. The value is true if all changes of the order came from presses on this page. @type {Map<string, boolean>} */
const changed = new Map();

/** Draws a changed order or booking in the next animation frame, together with other changes. @param {string} key @param {boolean} isOurs */
function update(key, isOurs) {
  changed.set(key, isOurs && changed.get(key) !== false);
  drawChanged();
}

const drawChanged = oncePerFrame(() => {
  const drawn = [...changed];
  changed.clear();
  for (const [kind, board] of Object.entries(boards)) {
    const own = drawn.filter(([key]) => kindOf(key) === kind);
    if (own.length) board.update(own);
  }
  drawn.forEach(([key, isOurs]) => refresh(key, isOurs));
  showAlarm();
  showCount();
});

/** Draws a changed order or booking at once. @param {string} key @param {boolean} isOurs whether a person pressed a button for it on this page */
function redrawOne(key, isOurs) {
  boards[kindOf(key)].update([[key, isOurs]]);
  refresh(key, isOurs);
}

/** Updates the open dialog, if it shows this order or booking. @param {string} key @param {boolean} isOurs */
function refresh(key, isOurs) {
  if (byId("order").open) import("./order.js").then(({ refreshOrder }) => refreshOrder(key, isOurs));
}

/** Opens the dialog of an order or booking. @param {string} key @param {string} [focus] `reject`: show the reasons for a rejection */
const openOrder = (key, focus) => import("./order.js").then((order) => order.openOrder(key, focus));

/** Draws everything again, after the lists or the language have changed. @param {readonly import("./orders.js").Kind[]} kinds the boards to draw */
function redraw(kinds = KINDS) {
  kinds.forEach((kind) => boards[kind].render());
  showAlarm();
  showCalm();
  showCount();
  showSound();
  showLight();
  showScope();
  showStore();
  showPause();
  showRefused();
}

function showCount() {
  if (settings.allDay) import("./allday.js").then(({ countAllDay }) => countAllDay());
  beside?.showStationBar();
  beside?.showStoreBar();
  if (document.body.dataset.view === "bookings") import("./bookings.js").then(({ showBookingDay }) => showBookingDay());
  live.stores.forEach(({ connection }) => connection.watchClosely(items.size > 0));
  if (live.connection) keepBoard();
  showCalm();
  const waits = unanswered();
  const counts = Object.fromEntries(KINDS.map((kind) => [kind, waits.filter((item) => item.kind === kind).length]));
  beside?.showBadge(counts.orders, counts.bookings, !live.connection || isReached());
  KINDS.forEach((kind) => say(byId(`badge-${kind}`), counts[kind] ? String(counts[kind]) : ""));
}

/**
 * Views whose modules are loaded on demand. Each entry loads a module, and gives the function that shows the view.
 * @type {Record<string, () => Promise<() => void>>}
 */
const LATER = {
  history: () => import("./history.js").then(({ showHistory }) => showHistory),
  settings: () => import("./preferences.js").then(({ openPreferences }) => () => openPreferences(redraw)),
};
let turn = 0;

/** Opens a view. @param {string} view */
async function show(view) {
  const mine = (turn += 1);
  const fill = LATER[view] && (await LATER[view]());
  if (mine !== turn) return;
  document.body.dataset.view = view;
  document.querySelectorAll("[data-view-of]").forEach((tab) => {
    if (tab.dataset.viewOf === view) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  });
  showAlarm();
  showCalm();
  beside?.showStoreBar();
  if (view === "bookings") showCount();
  fill?.();
}

/** Opens the board of an order or booking, and scrolls to its card. @param {string} key */
function reveal(key) {
  const kind = kindOf(key);
  show(kind);
  boards[kind].reveal(key);
}

/** Whether the current press unlocks the sound. Such a press must not also activate a button. */
let swallowing = false;

async function unlockAgain(event) {
  if (!live.connection || live.ringer.sounds || live.ringer.answer === "missing") return;
  swallowing = event.type !== "keydown" && event.target.closest?.("main") !== null && !document.body.dataset.heard;
  await live.ringer.unlock();
}

/** Blocks the click of a press that has only unlocked the sound. @param {Event} event */
function swallow(event) {
  if (!swallowing) return;
  swallowing = false;
  event.preventDefault();
  event.stopImmediatePropagation();
}

/** Tells the person and the server whether the page can ring. */
function showSound() {
  const { ringer, connection } = live;
  live.stores.forEach(({ connection }) => connection.setRings(ringer.sounds));
  showCalm();
  // Once the page could play sound, `unlockAgain` lets each press activate its button, even if the browser blocks the
  // sound later.
  if (ringer.sounds) document.body.dataset.heard = "";
  if (!connection || ringer.sounds) return clearNotice("sound");
  if (ringer.answer === "missing") return notice("sound", "problem", "mute", `${t("grant.sound.name")} ${t("grant.sound.missing")}`, t("notice.soundMissing"));
  notice("sound", "problem", "mute", t("notice.sound"), t("notice.soundWhy"), button("", "sound", t("notice.soundOn"), () => ringer.unlock()));
}
