/** What a person presses: it changes Postgres, and the page changes when the event comes back. @module actions */

import { dueAt, now, numberOf } from "./facts.js";
import { knows, t } from "./i18n.js";
import { live } from "./connection.js";
import { find, items } from "./orders.js";
import { isQueued, queueUp, restoreQueue, takeQueued, unqueue } from "./queue.js";
import { settings } from "./settings.js";
import { toast } from "./toast.js";
import { offerUndo } from "./undo.js";
import { ApiError } from "./vestnik.js";

/** An event that has not come back by then is not waited for any longer. */
const PATIENCE_MS = 10_000;

/** What was pressed and has not come back, by key. @type {Map<string, string>} */
export const pressed = new Map();

/** @typedef {import("./orders.js").Item} Item */
/** @typedef {{reason?: string, minutes?: number, readyAt?: number}} More readyAt: a new promise, milliseconds */
const MINUTE_MS = 60_000;
/** What the server takes, minutes. */
const MOST_MINUTES = 600;

/** @type {(key: string) => void} */
let changed = () => {};
/** @param {typeof changed} listener something was pressed, or has come back */
export const onPressed = (listener) => (changed = listener);

/** It has come back, or will not. @param {string} key */
export function settle(key) {
  if (isQueued(key)) return;
  if (pressed.delete(key)) changed(key);
}

/**
 * @param {Item} item
 * @param {string} to
 * @param {More} [more]
 * @returns {Promise<boolean>} whether it was done
 */
export async function act(item, to, more = {}) {
  const isDone = await send(item, to, more);
  // A new promise is no step that could be taken back.
  if (isDone && item.status !== to) offerUndo(item, to, () => takeBack({ ...item, status: to }, item.status));
  return isDone;
}

/** It will be ready so much later than was promised; what is late already, from now on. @param {Item} item @param {number} minutes */
export const delay = (item, minutes) => act(item, "preparing", { readyAt: Math.max(now(), dueAt(item) ?? 0) + minutes * MINUTE_MS });

/** What was pressed before a reload, and has not been sent. @param {string} store */
export function restorePresses(store) {
  restoreQueue(store).forEach(({ item, to }) => pressed.set(item.key, to));
}

/** It is not sent after all. @param {string} key */
export function cancelQueued(key) {
  unqueue(key);
  settle(key);
}

/** The line is back: what was pressed meanwhile is sent, unless the order is no longer what was pressed. */
export function sendQueued() {
  for (const { item, to, more } of takeQueued()) {
    pressed.delete(item.key);
    const known = find(item.key);
    // What is not known here any more, the server knows; it does nothing that is overtaken.
    if (known && known.status !== item.status) tellOvertaken(item, known.status);
    else act(items.get(item.key) ?? item, to, more);
    changed(item.key);
  }
}

/** One step back. @param {Item} item as it stands @param {string} to what it was @returns {Promise<boolean>} */
export const takeBack = (item, to) => send(item, to, {});

/** What it was before its last step, where that can be taken back. @param {Item} item */
export function stepBefore({ kind, status, previous_status: previous, order_type: type }) {
  if (previous && previous !== "cancelled" && status !== "cancelled" && status !== "pending") return previous;
  const before = {
    preparing: "pending",
    ready: "preparing",
    delivering: "ready",
    completed: kind === "bookings" ? "preparing" : type === "delivery" ? "delivering" : "ready",
    rejected: "pending",
  };
  return before[status] ?? null;
}

/** @param {Item} item @param {string} to @param {More} more */
async function send(item, to, more) {
  if (pressed.has(item.key) || !live.connection) return false;
  pressed.set(item.key, to);
  if (live.connection.state.name === "offline") {
    queueUp({ item, to, more });
    changed(item.key);
    return false;
  }
  changed(item.key);
  if (item.event) live.connection.ack(item.event);
  try {
    // A connection that is dead is found while the answer is waited for.
    live.connection.probe();
    await change(item, to, more);
    // Where no socket brings it, it is fetched.
    live.connection.pollNow();
    setTimeout(() => settle(item.key), PATIENCE_MS);
    return true;
  } catch (error) {
    settle(item.key);
    tellFailure(item, to, more, error);
    return false;
  }
}

/**
 * Tries twice: the first may go into a line that has died since. `from` keeps it from being done twice.
 * @param {Item} item @param {string} to @param {More} more
 */
async function change(item, to, { readyAt, ...more }) {
  if (readyAt) more.minutes = Math.min(MOST_MINUTES, Math.max(1, Math.round((readyAt - now()) / MINUTE_MS)));
  const wanted = { source: item.source, status: to, from: item.status, by: settings.name || undefined, ...more };
  const { api } = live.connection;
  try {
    await api.setStatus(item.kind, item.id, wanted);
  } catch (error) {
    if (error instanceof ApiError) throw error;
    await api.setStatus(item.kind, item.id, wanted).catch((again) => {
      const isDone = again instanceof ApiError && again.code === "status_conflict" && again.body.error.status === to;
      if (!isDone) throw again;
    });
  }
}

/** @param {Item} item @param {string} to @param {More} more @param {unknown} error */
function tellFailure(item, to, more, error) {
  const number = numberOf(item);
  if (error instanceof ApiError && error.code === "status_conflict") {
    const { status, by } = error.body.error;
    tellOvertaken(item, status, by);
    return live.connection.pollNow();
  }
  const words = item.status !== to && knows(`work.failed.${item.kind}.${to}`) ? `work.failed.${item.kind}.${to}` : "work.failed.other";
  const again = () => act(item, to, more);
  toast(t(words, { number }), { kind: "problem", detail: reasonOf(error), sign: "stop", about: item.key, action: [t("notice.retry"), again], stays: true });
}

/** Somebody was first; the event that says so may come later, and does not take these words away. @param {Item} item @param {string} [status] what it is; unknown: gone @param {string} [by] */
function tellOvertaken(item, status, by = "") {
  const number = numberOf(item);
  const words = status === "pending" ? "work.alreadyNew" : status ? "work.already" : "work.gone";
  toast(t(words, { number, status: status ? t(`status.${item.kind}.${status}`) : "" }), { kind: "problem", detail: by, sign: "person", about: `overtaken/${item.key}` });
}

/** Describes an error in words for a person. @param {unknown} error */
export function reasonOf(error) {
  if (!(error instanceof ApiError)) return t("work.noLine");
  const told = error.body?.error?.shop_message;
  if (told) return t("work.shopSays", { words: told });
  return t(knows(`work.why.${error.code}`) ? `work.why.${error.code}` : "work.why.other");
}
