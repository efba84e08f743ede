/** Ends a shift: for good, to forget the device, or to begin another shift by a link. @module ending */

import { ask } from "./ask.js";
import { disconnect } from "./connection.js";
import { letSleep } from "./device.js";
import { leavePage } from "./guard.js";
import { t } from "./i18n.js";
import { forgetBoard } from "./keep.js";
import { items } from "./orders.js";
import { forgetPrints } from "./prints.js";
import { forgetQueue } from "./queue.js";
import { forgetKey, keepKey, keysOf, setStarted } from "./settings.js";

/** The end of the shift: this page rings no more. A remembered key stays, so that the next one begins with one press. */
export async function endShift() {
  const count = (kind) => [...items.values()].filter((item) => item.kind === kind).length;
  const open = ["orders", "bookings"].filter(count).map((kind) => t(`set.open.${kind}`, { n: count(kind) }));
  const words = open.length ? t("set.endOpen", { open: open.join(", ") }) : t("set.endCalm");
  if (await ask({ title: t("set.endAsk"), words, yes: t("set.endNow"), no: t("order.back") })) leave();
}

/** Takes the key off this device, too. */
export async function forgetDevice() {
  if (!(await ask({ title: t("set.forgetAsk"), words: t("set.forgetWords"), yes: t("set.forgetNow"), no: t("order.back") }))) return;
  forgetPrints();
  leave();
  forgetKey();
}

/** A link was opened in a page that has stores already: it takes no shift over unasked. @param {import("./settings.js").Key} key */
export async function takeOver(key) {
  const stores = keysOf(key).map(({ store }) => store);
  const title = t("link.title", { store: stores.join(", "), n: stores.length });
  if (!(await ask({ title, words: t("link.words", { n: items.size }), yes: t("link.yes"), no: t("link.no") }))) return;
  // The page loads again, because the orders that it knows are those of other stores.
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
