/** The connection of this page, and the honest light that shows how it stands. @module connection */

import { byId, button, h, icon } from "./dom.js";
import { knows, t, time } from "./i18n.js";
import { panelName, settings } from "./settings.js";
import { connectWebSocket } from "./vestnik.js";

/** A break shorter than this makes no noise: a server that restarts is back by then. */
const OFFLINE_GRACE_MS = 12_000;

/** How long an order may wait for an answer, where the store says nothing else. */
const ANSWER_MS = 60_000;

/** A new key helps against these, and nothing else does. */
const KEY_REASONS = ["token_revoked", "token_expired", "unauthorized", "forbidden_store"];

/**
 * @type {{connection: import("./vestnik.js").Connection|null, ringer: import("./sound.js").Ringer|null, answerMs: number, scope: string, keptAt: number|null, storeName: string}}
 *   keptAt: the board is what it was then, and nothing newer has come, milliseconds
 *   scope: what the key allows: `read`, `panel`, `manager` or `operator`
 */
export const live = { connection: null, ringer: null, answerMs: ANSWER_MS, scope: "panel", keptAt: null, storeName: "" };

/** Whether the key shows who was reached, and the figures. */
export const isManager = () => live.scope === "manager" || live.scope === "operator";

/**
 * Opens the stream of the store.
 * @param {import("./settings.js").Key} key
 * @param {{onEvent: (event: any) => void, onState: (state: any) => void, load: (why: string|null) => Promise<string>}} handlers
 */
export function connect(key, { onEvent, onState, load }) {
  live.connection = connectWebSocket({
    ...key,
    panel: panelName(),
    rings: live.ringer.sounds,
    pollSeconds: settings.pollSeconds,
    onEvent,
    onState: (state) => {
      showLight();
      onState(state);
    },
    load,
  });
  showLight();
}

/** Whether new orders reach this page, if late. */
export const isReached = () => ["live", "catching_up", "polling"].includes(live.connection?.state.name ?? "");

let graceTimer = 0;

/** Shows how it stands: in the bar, and as a notice where a person has to know. */
export function showLight() {
  const state = live.connection?.state;
  const light = byId("light");
  light.hidden = !state;
  if (!state) return clearTimeout(graceTimer);
  light.dataset.state = state.name;
  // What stands there may no longer be so.
  if (document.body.dataset.line !== state.name) document.body.dataset.line = state.name;
  const since = time(state.since);
  const spoken = state.name === "live" && state.channel === "sse" ? "stream" : state.name;
  light.dataset.channel = state.channel ?? "";
  byId("light-text").textContent = t(`light.${spoken}`, { since });
  light.title = t(`light.${spoken}Why`, { since, n: settings.pollSeconds });
  showNotice(state, since);
  clearTimeout(graceTimer);
  const isOut = state.name === "offline" || state.name === "stopped";
  if (isOut && settings.offlineSound) {
    const wait = Math.max(0, OFFLINE_GRACE_MS - (Date.now() - state.since.getTime()));
    graceTimer = setTimeout(() => live.ringer.ring("offline", "offline"), state.name === "stopped" ? 0 : wait);
  } else {
    live.ringer.silence("offline");
  }
}

/** @param {import("./vestnik.js").State} state @param {string} since */
function showNotice(state, since) {
  if (state.name === "offline") {
    notice("line", "problem", "stop", t("notice.offline", { since }), live.keptAt ? t("notice.offlineKept", { time: time(live.keptAt) }) : t("notice.offlineWhy"), button("", null, t("notice.retry"), () => live.connection.retry()));
  } else if (state.name === "polling") {
    notice("line", "warning", "clock", t("notice.polling", { since }), t("notice.pollingWhy", { n: settings.pollSeconds }));
  } else if (state.name === "stopped") {
    const isKey = KEY_REASONS.includes(state.reason);
    const words = knows(`stopped.${state.reason}`) ? t(`stopped.${state.reason}`) : t("stopped.other", { code: state.reason });
    const again = button("", null, t("notice.retry"), () => live.connection.retry());
    const other = button("", null, t("notice.otherKey"), () => document.dispatchEvent(new CustomEvent("vestnik:key", { detail: words })));
    notice("line", "problem", "stop", t(isKey ? "notice.closed" : "notice.stopped"), words, isKey ? other : again);
  } else if (state.name !== "connecting" && state.name !== "loading") {
    clearNotice("line");
  }
}

/**
 * Something that a person has to know, until it is over.
 * @param {string} name one of a name at once
 * @param {"problem"|"warning"} kind
 * @param {any} sign
 * @param {string} title
 * @param {string} why
 * @param {...(HTMLElement|null)} actions
 */
export function notice(name, kind, sign, title, why, ...actions) {
  const words = h("div", { class: "notice-words" }, h("strong", { text: title }), h("span", { text: why }));
  const made = h("div", { class: `notice notice-${kind}`, role: "alert", data: { notice: name } }, icon(sign), words, ...actions);
  const old = byId("notices").querySelector(`[data-notice="${name}"]`);
  // The same words are not read aloud again.
  if (old?.textContent === made.textContent) return;
  if (old) old.replaceWith(made);
  else byId("notices").append(made);
}

/** @param {string} name */
export const clearNotice = (name) => byId("notices").querySelector(`[data-notice="${name}"]`)?.remove();
