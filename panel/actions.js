/** Sends the button presses of a person to the server. The server changes the order in Postgres. The page shows the change when its event arrives. @module actions */

import { dueAt, now } from "./facts.js";
import { connectionOf } from "./connection.js";
import { find, items } from "./orders.js";
import { isQueued, queueUp, restoreQueue, takeQueued, unqueue } from "./queue.js";
import { settings } from "./settings.js";
import { ApiError } from "./vestnik.js";

/** The longest wait for the event of a press. After this time, the buttons of the order work again. */
const PATIENCE_MS = 10_000;

/** The requested status of each order or booking whose event has not arrived yet, by key. @type {Map<string, string>} */
export const pressed = new Map();

/** @typedef {import("./orders.js").Item} Item */
/** @typedef {{reason?: string, minutes?: number, readyAt?: number}} More readyAt: the new promised time, milliseconds since 1970 */
const MINUTE_MS = 60_000;
/** The most minutes that the server accepts. */
const MOST_MINUTES = 600;

/** The listener that {@link onPressed} sets. @type {(key: string) => void} */
let changed = () => {};
/** Sets the listener for presses. @param {typeof changed} listener called with the key when a press begins, and when its event has arrived */
export const onPressed = (listener) => (changed = listener);

/** Ends the wait for the event of a press. @param {string} key the key of the order or booking */
export function settle(key) {
  if (isQueued(key)) return;
  if (pressed.delete(key)) changed(key);
}

/**
 * Requests a new status for an order or booking.
 * @param {Item} item
 * @param {string} to the requested status
 * @param {More} [more]
 * @returns {Promise<boolean>} whether the server has accepted the change
 */
export async function act(item, to, more = {}) {
  const isDone = await send(item, to, more);
  // A new promised time keeps the status, so there is no step to undo.
  if (isDone && item.status !== to) (await import("./undo.js")).offerUndo(item, to, () => takeBack({ ...item, status: to }, item.status));
  return isDone;
}

/** Moves the promised time later. If the promised time has passed, the minutes count from now. @param {Item} item @param {number} minutes */
export const delay = (item, minutes) => act(item, "preparing", { readyAt: Math.max(now(), dueAt(item) ?? 0) + minutes * MINUTE_MS });

/** Restores the queued presses after a reload, so that the cards of their orders show them. */
export function restorePresses() {
  restoreQueue().forEach(({ item, to }) => pressed.set(item.key, to));
}

/** Cancels a queued press. @param {string} key */
export function cancelQueued(key) {
  unqueue(key);
  settle(key);
}

/** Sends the queued presses of a store when its connection is back. If the status of an order has changed meanwhile, its press is not sent. @param {string} store */
export function sendQueued(store) {
  for (const { item, to, more } of takeQueued(store)) {
    pressed.delete(item.key);
    const known = find(item.key);
    // Send the press even if this page no longer knows the order: the server compares the status with `from`.
    if (known && known.status !== item.status) import("./actionfailure.js").then(({ tellOvertaken }) => tellOvertaken(item, known.status));
    else act(items.get(item.key) ?? item, to, more);
    changed(item.key);
  }
}

/**
 * Undoes the last step: requests the status that the order or booking had before it.
 * @param {Item} item with its current status
 * @param {string} to the status before the last step
 * @returns {Promise<boolean>}
 */
export const takeBack = (item, to) => send(item, to, {});

/** The status before the last step; null if that step cannot be undone. @param {Item} item */
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

/** Sends a press, or queues it while the connection is lost. @param {Item} item @param {string} to @param {More} more */
async function send(item, to, more) {
  const connection = connectionOf(item.store);
  if (pressed.has(item.key) || !connection) return false;
  pressed.set(item.key, to);
  if (connection.state.name === "offline") {
    queueUp({ item, to, more });
    changed(item.key);
    return false;
  }
  changed(item.key);
  if (item.event) connection.ack(item.event);
  try {
    // Probe the connection while the request runs, so that a dead connection is found early.
    connection.probe();
    await change(item, to, more);
    // Without a socket, the server cannot send the event to this page, so the page polls for it now.
    connection.pollNow();
    setTimeout(() => settle(item.key), PATIENCE_MS);
    return true;
  } catch (error) {
    settle(item.key);
    import("./actionfailure.js").then(({ tellFailure }) => tellFailure(item, to, error, () => act(item, to, more)));
    return false;
  }
}

/**
 * Sends a status change. After a network error, sends it once more, because the browser may have used a dead
 * connection. Both requests state the current status as `from`. If the first one has changed the status, the server
 * refuses the second one.
 * @param {Item} item @param {string} to @param {More} more
 */
async function change(item, to, { readyAt, ...more }) {
  if (readyAt) more.minutes = Math.min(MOST_MINUTES, Math.max(1, Math.round((readyAt - now()) / MINUTE_MS)));
  const wanted = { source: item.source, status: to, from: item.status, by: settings.name || undefined, ...more };
  const { api } = connectionOf(item.store);
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

