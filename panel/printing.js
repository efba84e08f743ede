/** Prints one ticket after the other, and says what became of each. Nothing of it is in the way of what rings. @module printing */

import { button } from "./dom.js";
import { signedNumber } from "./facts.js";
import { t } from "./i18n.js";
import { live, notice, clearNotice } from "./connection.js";
import { failedPrints, print, printOf, setPrint } from "./prints.js";
import { DOTS, escpos } from "./escpos.js";
import { codeOf, send } from "./printer.js";
import { raster } from "./raster.js";
import { change, settings } from "./settings.js";
import { printByBrowser, ticketOf } from "./ticket.js";

/** Tickets that wait at once. */
const MOST = 100;
/** A page that stood still for longer had a window of the browser before it. */
const BLOCKED_MS = 2_000;
/** Orders that the page names. */
const NAMED = 4;

/** @typedef {import("./orders.js").Item} Item */

/** @type {{item: Item, isUnasked: boolean}[]} */
const queue = [];
let isPrinting = false;
/** Whether the browser is known to print without a window. */
let isSilent = false;

document.addEventListener("vestnik:alarm", work);
document.addEventListener("vestnik:print", showFailed);

/** @param {Item} item @param {boolean} isUnasked */
export function enqueue(item, isUnasked) {
  if (queue.length >= MOST) return setPrint(item.key, "failed", "many");
  queue.push({ item, isUnasked });
  work();
}

/** Whatever may be printed now, one after the other. */
async function work() {
  if (isPrinting) return;
  isPrinting = true;
  for (let next = take(); next; next = take()) await printOne(next);
  isPrinting = false;
}

/** A window of the browser would silence what rings: a ticket that nobody has asked for waits until that is over. */
function take() {
  const rings = [...live.ringer.ringing.values()].some((kind) => kind === "order" || kind === "urgent");
  const mayPrint = ({ isUnasked }) => settings.printer || !isUnasked || isSilent || !rings;
  const first = queue.findIndex(mayPrint);
  return first < 0 ? undefined : queue.splice(first, 1)[0];
}

/** @param {{item: Item, isUnasked: boolean}} job */
async function printOne({ item, isUnasked }) {
  try {
    await printTicket(item, Boolean(printOf(item.key)?.isRepeat), settings.copies, isUnasked);
    setPrint(item.key, "printed");
  } catch (error) {
    console.warn(error);
    setPrint(item.key, "failed", codeOf(error));
  }
}

/** @param {Item} item @param {boolean} isCopy @param {number} copies @param {boolean} [isUnasked] */
export async function printTicket(item, isCopy, copies, isUnasked = false) {
  const blocks = ticketOf(item, isCopy);
  if (settings.printer) return send(/** @type {import("./printer.js").Wire} */ (settings.printer), escpos(await raster(blocks, DOTS[settings.paper]), copies));
  const isBlocked = printByBrowser(blocks, copies) > BLOCKED_MS;
  isSilent = !isBlocked;
  if (isBlocked && isUnasked) refuse();
}

/** This browser opens a window for each ticket: orders would come unheard behind it. */
function refuse() {
  change({ autoPrint: "" });
  notice("autoprint", "warning", "printer", t("print.refused"), t("print.refusedWhy"), button("", null, t("alarm.noticed"), () => clearNotice("autoprint")));
}

/** Names what has not been printed, with a way to try it again. */
function showFailed() {
  const failed = failedPrints();
  if (!failed.length) return clearNotice("printer");
  const numbers = failed.slice(0, NAMED).map(([item]) => signedNumber(item)).join(", ") + (failed.length > NAMED ? " …" : "");
  const again = () => failedPrints().forEach(([item]) => print(item));
  const why = t(`print.why.${failed.at(-1)[1].why}`);
  notice("printer", "warning", "printer", t("print.failed", { numbers }), why[0].toUpperCase() + why.slice(1), button("", null, t("notice.retry"), again));
}
