/**
 * Prevents an accidental end of a shift. "Back" closes the open dialog, or returns to the orders. The browser asks
 * before a person closes or reloads the page. This module also installs the page as an app, and loads a new version
 * when that disturbs nobody.
 *
 * @module leaveguard
 */

import { byId } from "./dom.js";
import { t } from "./i18n.js";
import { live } from "./connection.js";
import { items } from "./orders.js";
import { toast } from "./toast.js";

/** The page may reload itself only if nobody has touched it for this time. */
const QUIET_MS = 60_000;
const LOOK_MS = 15_000;

let mayLeave = false;
let hasNewVersion = false;
let touchedAt = performance.now();
/** The browser's event that can show its question to install the app. The page keeps the event until a person asks to install. @type {any} */
let install = null;

/** Adds the listeners. @param {(view: string) => void} show opens a view of the page */
export function setUpGuard(show) {
  addEventListener("beforeunload", (event) => {
    if (live.connection && !mayLeave) event.preventDefault();
  });
  addEventListener("popstate", () => {
    if (!live.connection || mayLeave) return;
    holdBack();
    const open = [...document.querySelectorAll("dialog[open]")].at(-1);
    if (open) return /** @type {HTMLDialogElement} */ (open).close();
    if (document.body.dataset.view !== "orders") return show("orders");
    toast(t("guard.back"), { sign: "leave", about: "back" });
  });
  addEventListener("beforeinstallprompt", (event) => {
    event.preventDefault();
    install = event;
    byId("install").hidden = false;
  });
  for (const touch of ["pointerdown", "keydown"]) addEventListener(touch, () => (touchedAt = performance.now()), { capture: true, passive: true });
  const had = navigator.serviceWorker?.controller;
  navigator.serviceWorker?.addEventListener("controllerchange", () => (hasNewVersion = Boolean(had)));
  setInterval(loadQuietly, LOOK_MS);
}

/** Shows the browser's question to install the app. */
export const askToInstall = () => install?.prompt();

/** Adds an entry to the browser's history, so that "back" does not leave the page. */
export function holdBack() {
  if (history.state !== "shift") history.pushState("shift", "");
}

/** Reloads the page without a question to the person. */
export function leavePage() {
  mayLeave = true;
  location.reload();
}

/** Loads a new version if the page has no open orders or bookings, no dialog is open, and nobody touches the tablet. */
function loadQuietly() {
  const isQuiet = items.size === 0 && performance.now() - touchedAt > QUIET_MS && !document.querySelector("dialog[open]");
  if (hasNewVersion && isQuiet && live.connection?.state.name === "live") leavePage();
}
