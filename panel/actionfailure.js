/** Tells people why an action has failed. @module actionfailure */

import { connectionOf } from "./connection.js";
import { numberOf } from "./facts.js";
import { knows, t } from "./i18n.js";
import { announce, toast } from "./toast.js";
import { ApiError } from "./vestnik.js";

/** @typedef {import("./orders.js").Item} Item */

/**
 * Shows why a status change has failed.
 * @param {Item} item
 * @param {string} to the requested status
 * @param {unknown} error
 * @param {() => void} again retries the change
 */
export function tellFailure(item, to, error, again) {
  const number = numberOf(item);
  if (error instanceof ApiError && error.code === "status_conflict") {
    const { status, by } = error.body.error;
    tellOvertaken(item, status, by);
    return connectionOf(item.store)?.pollNow();
  }
  const words = item.status !== to && knows(`work.failed.${item.kind}.${to}`) ? `work.failed.${item.kind}.${to}` : "work.failed.other";
  toast(t(words, { number }), { kind: "problem", detail: reasonOf(error), sign: "stop", about: item.key, action: [t("notice.retry"), again], stays: true });
}

/**
 * Tells a person that somebody else has changed the order first. The event of that change removes the messages of the
 * order, so this message has a key of its own.
 * @param {Item} item
 * @param {string} [status] its current status; absent if the order is gone
 * @param {string} [by]
 */
export function tellOvertaken(item, status, by = "") {
  const number = numberOf(item);
  const words = status === "pending" ? "work.alreadyNew" : status ? "work.already" : "work.gone";
  toast(t(words, { number, status: status ? t(`status.${item.kind}.${status}`) : "" }), { kind: "problem", detail: by, sign: "person", about: `overtaken/${item.key}` });
}

/** The reason of an error, in words for people. @param {unknown} error */
export function reasonOf(error) {
  if (!(error instanceof ApiError)) return t("work.noLine");
  const told = error.body?.error?.shop_message;
  if (told) return t("work.shopSays", { words: told });
  return t(knows(`work.why.${error.code}`) ? `work.why.${error.code}` : "work.why.other");
}

/**
 * Tells a person that the shop's application has overwritten their answer with an old row.
 * @param {Item} item with its current status
 * @param {{status: string, by: string}} answer the lost answer
 */
export function tellOverwritten(item, answer) {
  const title = t("alert.overwritten", { number: numberOf(item), status: t(`status.${item.kind}.${answer.status}`) });
  announce(title);
  toast(title, { kind: "problem", detail: t("alert.overwrittenBy", { by: answer.by }), sign: "stop", about: `overwritten/${item.key}`, stays: true });
}
