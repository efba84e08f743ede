/** The part of the settings view in which a person sets up the printing of tickets. @module printsettings */

import { byId, h } from "./dom.js";
import { now } from "./facts.js";
import { t } from "./i18n.js";
import { choosePrinter, codeOf, wires } from "./printer.js";
import { printTicket } from "./printing.js";
import { change, settings } from "./settings.js";

const WHEN = ["", "arrival", "accept"];
/** The widths of paper, millimetres. */
const PAPER = [80, 58];
const COPIES = [1, 2, 3, 4];
const BAUDS = [9_600, 19_200, 38_400, 115_200];

export function setUpPrinting() {
  byId("set-print").addEventListener("change", (event) => change({ autoPrint: event.target.value, printSince: now() }));
  byId("set-paper").addEventListener("change", (event) => change({ paper: Number(event.target.value) }));
  byId("set-copies").addEventListener("change", (event) => change({ copies: Number(event.target.value) }));
  byId("set-baud").addEventListener("change", (event) => change({ baud: Number(event.target.value) }));
  byId("set-printer").addEventListener("change", (event) => {
    change({ printer: event.target.value, printerName: "" });
    showPrinting();
  });
  byId("choose-printer").addEventListener("click", choose);
  byId("try-printer").addEventListener("click", tryOut);
}

/** Fills in the current print settings. */
export function showPrinting() {
  const named = (name) => t(`print.printer.${name || "browser"}`);
  const minor = (values, word) => values.map((value) => [String(value), word(value)]);
  options("set-print", WHEN.map((when) => [when, t(`print.${when || "never"}`)]), settings.autoPrint);
  options("set-printer", ["", ...new Set([...wires(), settings.printer])].filter((name, number) => name || !number).map((name) => [name, named(name)]), settings.printer);
  options("set-paper", minor(PAPER, (n) => t("set.millimetres", { n })), String(settings.paper));
  options("set-copies", minor(COPIES, String), String(settings.copies));
  options("set-baud", minor(BAUDS, String), String(settings.baud));
  byId("baud-field").hidden = settings.printer !== "serial";
  byId("choose-printer").hidden = !settings.printer;
  const hint = settings.printer && settings.printerName ? "print.hint.named" : `print.hint.${settings.printer || "browser"}`;
  byId("print-hint").textContent = t(hint, { name: settings.printerName });
}

async function choose() {
  const { printer } = settings;
  if (!printer) return;
  try {
    const name = await choosePrinter(printer);
    if (name === null) return;
    change({ printerName: name });
    showPrinting();
    tell("");
  } catch {
    tell(t("print.why.failed"));
  }
}

/** Prints a sample ticket, so that a person can check the width of the paper and all letters. */
async function tryOut() {
  const sample = /** @type {import("./orders.js").Item} */ ({ key: "", kind: "orders", id: "0", number: "0", source: "", status: "pending", next: [], since: now(), comment: t("print.sample"), items: [{ name: t("print.sampleDish"), quantity: 2 }] });
  tell(t("print.waits"));
  try {
    await printTicket(sample, false, 1);
    tell(t("print.tried"));
  } catch (error) {
    tell(`${t("print.notPrinted")} ${t(`print.why.${codeOf(error)}`)}`);
  }
}

/** @param {string} words */
const tell = (words) => (byId("print-result").textContent = words);

/** Fills a select element. @param {string} id @param {string[][]} choices the value and the label of each option @param {string} chosen the selected value */
export function options(id, choices, chosen) {
  byId(id).replaceChildren(...choices.map(([value, text]) => h("option", { value, text, selected: value === chosen })));
}
