/** What a person presses: it changes Postgres, and the page changes when the event comes back. @module work */

import { say } from "./i18n.js";
import { live } from "./live.js";
import { settings } from "./settings.js";
import { toast } from "./toast.js";
import { ApiError } from "./vestnik.js";

/** An event that has not come back by then is not waited for any longer. */
const PATIENCE_MS = 10_000;

/** What was pressed and has not come back, by key. @type {Map<string, string>} */
export const pressed = new Map();

/** @type {(key: string) => void} */
let changed = () => {};
/** @param {(key: string) => void} listener called when something was pressed, or has come back */
export const onPressed = (listener) => (changed = listener);

/** It has come back, or will not. @param {string} key */
export function settle(key) {
  if (pressed.delete(key)) changed(key);
}

/**
 * @param {import("./orders.js").Item} item
 * @param {string} to
 * @param {{reason?: string, minutes?: number}} [more]
 * @returns {Promise<boolean>} whether it was done
 */
export async function act(item, to, more = {}) {
  if (pressed.has(item.key) || !live.connection) return false;
  pressed.set(item.key, to);
  changed(item.key);
  if (item.event) live.connection.ack(item.event);
  try {
    const by = settings.name || undefined;
    await live.connection.api.setStatus(item.kind, item.id, { status: to, by, ...more });
    // Where no socket brings it, it is fetched.
    live.connection.pollNow();
    setTimeout(() => settle(item.key), PATIENCE_MS);
    return true;
  } catch (error) {
    settle(item.key);
    const number = say(item.kind === "orders" ? "order.number" : "booking.number", { id: item.id });
    if (error instanceof ApiError && error.code === "status_conflict") {
      const { status, by } = error.body.error;
      const now = say(`status.${item.kind}.${status}`);
      toast(say("work.conflict", { number }), { kind: "problem", detail: by ? say("work.by", { now, by }) : now, sign: "person" });
      live.connection.pollNow();
    } else {
      const why = error instanceof ApiError ? error.message : say("work.noLine");
      toast(say("work.failed", { number }), { kind: "problem", detail: why, sign: "stop" });
    }
    return false;
  }
}
