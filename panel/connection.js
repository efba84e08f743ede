/** The connection of each open store, and the light that shows its state. @module connection */

import { byId, button, h, icon, mark } from "./dom.js";
import { knows, t, time } from "./i18n.js";
import { panelName, settings } from "./settings.js";
import { connectWebSocket } from "./vestnik.js";

/** The page plays the offline sound only after this time without a connection: a server that restarts is back sooner. */
const OFFLINE_GRACE_MS = 12_000;

/** How long an order may wait for an answer, unless the store has its own limit. */
const ANSWER_MS = 60_000;

/** If the state `stopped` has one of these reasons, a person must enter another key. */
const KEY_REASONS = ["token_revoked", "token_expired", "unauthorized", "forbidden_store"];

/**
 * A store that this page has opened. Each store has its own connection: with one stream for several stores, the server
 * would count the panel as present in none of them.
 * @typedef {object} Opened
 * @property {string} store
 * @property {import("./vestnik.js").Connection} connection
 * @property {number} answerMs how long an order may wait for an answer, milliseconds
 * @property {string} scope what the key allows: `read`, `panel`, `manager` or `operator`
 * @property {number|null} keptAt when the board on the screen was saved, milliseconds; null once the lists are loaded
 * @property {any} card the description of the store from the server; null until it is loaded
 * @property {number|null} today the number of orders since midnight; null while it is unknown
 * @property {boolean} isSettled whether the first lists are loaded
 * @property {import("./orders.js").Item[]|null} before the open orders and bookings before a load of the lists; kept until a load succeeds
 */

export const live = {
  /** The open stores, by id. @type {Map<string, Opened>} */
  stores: new Map(),
  /** The id of the store that is selected in the panel; "" if all stores are selected. */
  shown: "",
  /** @type {import("./sound.js").Ringer|null} */
  ringer: null,
  /** The store that is selected in the panel. If all stores are selected, the first store. @type {Opened|undefined} */
  get opened() {
    return live.stores.get(live.shown) ?? live.stores.values().next().value;
  },
  get connection() {
    return live.opened?.connection ?? null;
  },
  get scope() {
    return live.opened?.scope ?? "panel";
  },
};

/** Whether this page has opened more than one store. */
export const isSeveral = () => live.stores.size > 1;

/** The connection of a store; undefined if the page has not opened the store. @param {string} store */
export const connectionOf = (store) => live.stores.get(store)?.connection;

/** The name of a store; until the server has sent the name, words with the store's id. @param {string} store */
export const storeName = (store) => live.stores.get(store)?.card?.name || t("bar.store", { store });

/** Adds the name of the store to words about the store, if the page has several stores. @param {string} store @param {string} words */
export const about = (store, words) => (isSeveral() ? `${storeName(store)}: ${words}` : words);

/** Whether the store of an order or booking is selected in the panel. @param {{store: string}} item */
export const isLookedAt = ({ store }) => !live.shown || store === live.shown;

/** Whether the key may read receipts and figures. */
export const isManager = () => live.scope === "manager" || live.scope === "operator";

/**
 * Opens the stream of a store.
 * @param {import("./settings.js").Key} key
 * @param {{onEvent: (event: any) => void, onState: (opened: Opened) => void, load: (opened: Opened, why: string|null) => Promise<string>}} handlers
 */
export function connect(key, { onEvent, onState, load }) {
  if (live.stores.has(key.store)) return;
  /** @type {any} */
  const opened = { store: key.store, answerMs: ANSWER_MS, scope: "panel", keptAt: null, card: null, today: null, isSettled: false, before: null };
  live.stores.set(key.store, opened);
  opened.connection = connectWebSocket({
    ...key,
    panel: panelName(),
    rings: live.ringer.sounds,
    pollSeconds: settings.pollSeconds,
    onEvent,
    onState: () => {
      showLight();
      onState(opened);
    },
    load: (why) => load(opened, why),
  });
}

/** Closes all connections. */
export function disconnect() {
  live.stores.forEach(({ connection }) => connection.close());
  live.stores.clear();
  live.shown = "";
  for (const shown of byId("notices").querySelectorAll(PER_STORE)) shown.remove();
}

/** Whether new orders of all stores reach this page, possibly with a delay. */
export const isReached = () => live.stores.size > 0 && [...live.stores.values()].every(({ connection }) => ["live", "catching_up", "polling"].includes(connection.state.name));

/** The states of a connection, from the best to the worst. */
const STATES = ["live", "catching_up", "connecting", "loading", "polling", "offline", "stopped"];

/** The store with the worst connection. */
const worst = () => [...live.stores.values()].sort((one, other) => STATES.indexOf(other.connection.state.name) - STATES.indexOf(one.connection.state.name))[0];

/** A CSS selector of the notices that are each about one store. */
const PER_STORE = ["line", "pause", "chat", "telegram", "unavailable"].map((name) => `[data-notice^="${name}"]`).join();

let graceTimer = 0;

/** Shows the worst connection in the bar, and a notice for each store whose connection needs a person's attention. */
export function showLight() {
  const shown = worst();
  const state = shown?.connection.state;
  const light = byId("light");
  light.hidden = !state;
  if (!state) return clearTimeout(graceTimer);
  light.dataset.state = state.name;
  // Without a connection the board may be out of date, so panel.css shows it in grey.
  mark(document.body, "line", state.name);
  const since = time(state.since);
  const spoken = state.name === "live" && state.channel === "sse" ? "stream" : state.name;
  light.dataset.channel = state.channel ?? "";
  const words = t(`light.${spoken}`, { since });
  byId("light-text").textContent = state.name === "live" ? words : about(shown.store, words);
  light.title = t(`light.${spoken}Why`, { since, n: settings.pollSeconds });
  live.stores.forEach(showNotice);
  clearTimeout(graceTimer);
  const isOut = state.name === "offline" || state.name === "stopped";
  if (isOut && settings.offlineSound) {
    const wait = Math.max(0, OFFLINE_GRACE_MS - (Date.now() - state.since.getTime()));
    graceTimer = setTimeout(() => live.ringer.ring("offline", "offline"), state.name === "stopped" ? 0 : wait);
  } else {
    live.ringer.silence("offline");
  }
}

/** Shows or removes the notice about the connection of a store. @param {Opened} opened */
function showNotice({ store, connection, keptAt }) {
  const { state } = connection;
  const since = time(state.since);
  const again = button("", null, t("notice.retry"), () => connection.retry());
  if (state.name === "offline") {
    storeNotice(store, "line", "problem", "stop", t("notice.offline", { since }), keptAt ? t("notice.offlineKept", { time: time(keptAt) }) : t("notice.offlineWhy"), again);
  } else if (state.name === "polling") {
    storeNotice(store, "line", "warning", "clock", t("notice.polling", { since }), t("notice.pollingWhy", { n: settings.pollSeconds }));
  } else if (state.name === "stopped") {
    const isKey = KEY_REASONS.includes(state.reason);
    const words = knows(`stopped.${state.reason}`) ? t(`stopped.${state.reason}`) : t("stopped.other", { code: state.reason });
    const other = button("", null, t("notice.otherKey"), () => document.dispatchEvent(new CustomEvent("vestnik:key", { detail: words })));
    storeNotice(store, "line", "problem", "stop", t(isKey ? "notice.closed" : "notice.stopped"), words, isKey ? other : again);
  } else if (state.name !== "connecting" && state.name !== "loading") {
    clearStoreNotice(store, "line");
  }
}

/**
 * Shows a notice until `clearNotice` removes it.
 * @param {string} name identifies the notice; a new notice with the same name replaces the old one
 * @param {"problem"|"warning"} kind
 * @param {any} sign
 * @param {string} title
 * @param {string} why
 * @param {...(HTMLElement|null)} actions
 */
export function notice(name, kind, sign, title, why, ...actions) {
  const words = h("div", { class: "notice-words" }, h("strong", { text: title }), h("span", { text: why }));
  const made = h("div", { class: `notice notice-${kind}`, role: "alert", data: { notice: name } }, icon(sign), words, ...actions);
  const old = byId("notices").querySelector(`[data-notice="${CSS.escape(name)}"]`);
  // Keep an equal notice, because a screen reader would read a new one aloud.
  if (old?.textContent === made.textContent) return;
  if (old) old.replaceWith(made);
  else byId("notices").append(made);
}

/** Removes the notice of this name, if it is shown. @param {string} name */
export const clearNotice = (name) => byId("notices").querySelector(`[data-notice="${CSS.escape(name)}"]`)?.remove();

/** The name of a notice about one store. @param {string} store @param {string} name */
const nameFor = (store, name) => (isSeveral() ? `${name} ${store}` : name);

/**
 * Shows a notice about one store; `told` has the other arguments of {@link notice}.
 * @param {string} store
 * @param {[string, "problem"|"warning", any, string, string, ...(HTMLElement|null)[]]} told
 */
export const storeNotice = (store, ...[name, kind, sign, title, ...more]) => notice(nameFor(store, name), kind, sign, about(store, title), ...more);

/** Removes a notice about one store. @param {string} store @param {string} name */
export const clearStoreNotice = (store, name) => clearNotice(nameFor(store, name));
