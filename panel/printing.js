/** Prints the queued tickets one by one, and records whether each was printed. A print must not silence an order that rings. @module printing */

import { button } from "./dom.js";
import { signedNumber } from "./facts.js";
import { t } from "./i18n.js";
import { live, notice, clearNotice } from "./connection.js";
import { failedPrints, print, printOf, setPrint } from "./autoprint.js";
import { DOTS, escpos } from "./escpos.js";
import { codeOf, send } from "./printer.js";
import { raster } from "./raster.js";
import { change, settings } from "./settings.js";
import { printByBrowser, ticketOf } from "./ticket.js";

/** The most tickets that the queue keeps. */
const MOST = 100;
/** If a print blocks the page for longer than this time, the browser has shown a dialog. */
const BLOCKED_MS = 2_000;
/** The most orders that the notice names. */
const NAMED = 4;

/** @typedef {import("./orders.js").Item} Item */

/** The tickets that wait. `isUnasked`: the print is automatic, and no person has pressed a button. @type {{item: Item, isUnasked: boolean}[]} */
const queue = [];
let isPrinting = false;
/** Whether the last print through the browser has shown no dialog. */
let isSilent = false;

document.addEventListener("vestnik:alarm", work);
document.addEventListener("vestnik:print", showFailed);

/** Adds a ticket to the queue. @param {Item} item @param {boolean} isUnasked whether the print is automatic */
export function enqueue(item, isUnasked) {
  if (queue.length >= MOST) return setPrint(item.key, "failed", "many");
  queue.push({ item, isUnasked });
  work();
}

/** Prints all tickets that may be printed now, one by one. */
async function work() {
  if (isPrinting) return;
  isPrinting = true;
  for (let next = take(); next; next = take()) await printOne(next);
  isPrinting = false;
}

/** Removes the next ticket from the queue. A print dialog would silence ringing orders, so an automatic ticket waits while an order rings and a dialog may open. */
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

/** Prints the ticket of an order. @param {Item} item @param {boolean} isCopy whether the order was printed before @param {number} copies @param {boolean} [isUnasked] whether the print is automatic */
export async function printTicket(item, isCopy, copies, isUnasked = false) {
  const blocks = ticketOf(item, isCopy);
  if (settings.printer) return send(/** @type {import("./printer.js").Wire} */ (settings.printer), escpos(await raster(blocks, DOTS[settings.paper]), copies));
  const isBlocked = printByBrowser(blocks, copies) > BLOCKED_MS;
  isSilent = !isBlocked;
  if (isBlocked && isUnasked) refuse();
}

/** Turns automatic printing off, because this browser opens a dialog for each ticket. While a dialog is open, new orders cannot ring. */
function refuse() {
  change({ autoPrint: "" });
  notice("autoprint", "warning", "printer", t("print.refused"), t("print.refusedWhy"), button("", null, t("alarm.noticed"), () => clearNotice("autoprint")));
}

/** Names the orders that were not printed, and offers to print them again. */
function showFailed() {
  const failed = failedPrints();
  if (!failed.length) return clearNotice("printer");
  const numbers = failed.slice(0, NAMED).map(([item]) => signedNumber(item)).join(", ") + (failed.length > NAMED ? " …" : "");
  const again = () => failedPrints().forEach(([item]) => print(item));
  const why = t(`print.why.${failed.at(-1)[1].why}`);
  notice("printer", "warning", "printer", t("print.failed", { numbers }), why[0].toUpperCase() + why.slice(1), button("", null, t("notice.retry"), again));
}
