/** Ends a shift, with the key kept or deleted. Also starts another shift from a link. @module endshift */

import { ask } from "./confirm.js";
import { disconnect } from "./connection.js";
import { letSleep } from "./device.js";
import { leavePage } from "./leaveguard.js";
import { t } from "./i18n.js";
import { forgetBoard } from "./savedboard.js";
import { items } from "./orders.js";
import { forgetPrints } from "./autoprint.js";
import { forgetQueue } from "./queue.js";
import { forgetKey, keepKey, keysOf, setStarted } from "./settings.js";

/** Ends the shift on this page. If the device remembers the key, the key stays, so that the next shift starts with one press. */
export async function endShift() {
  const count = (kind) => [...items.values()].filter((item) => item.kind === kind).length;
  const open = ["orders", "bookings"].filter(count).map((kind) => t(`set.open.${kind}`, { n: count(kind) }));
  const words = open.length ? t("set.endOpen", { open: open.join(", ") }) : t("set.endCalm");
  if (await ask({ title: t("set.endAsk"), words, yes: t("set.endNow"), no: t("order.back") })) leave();
}

/** Ends the shift, and removes the key from this device. */
export async function forgetDevice() {
  if (!(await ask({ title: t("set.forgetAsk"), words: t("set.forgetWords"), yes: t("set.forgetNow"), no: t("order.back") }))) return;
  forgetPrints();
  leave();
  forgetKey();
}

/**
 * Handles a link that was opened in a page with an open shift. A person must confirm before the new shift begins.
 * @param {import("./settings.js").Key} key
 */
export async function takeOver(key) {
  const stores = keysOf(key).map(({ store }) => store);
  const title = t("link.title", { store: stores.join(", "), n: stores.length });
  if (!(await ask({ title, words: t("link.words", { n: items.size }), yes: t("link.yes"), no: t("link.no") }))) return;
  // Reload the page, because the orders in its memory belong to the old stores.
  disconnect();
  keepKey(key, false);
  setStarted(false);
  leavePage();
}

function leave() {
  disconnect();
  forgetBoard();
  forgetQueue();
  letSleep();
  setStarted(false);
  leavePage();
}
