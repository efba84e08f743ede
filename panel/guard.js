/**
 * Keeps a shift from ending by accident: "back" closes what is open and leads to the orders, closing and reloading are asked
 * about. And makes an app of the page: full screen, on the home screen, and a new version where nobody is disturbed.
 *
 * @module guard
 */

import { byId } from "./dom.js";
import { t } from "./i18n.js";
import { live } from "./connection.js";
import { items } from "./orders.js";
import { toast } from "./toast.js";

/** A page that nobody has touched for so long, with nothing open, may load itself anew. */
const QUIET_MS = 60_000;
const LOOK_MS = 15_000;

let mayLeave = false;
let hasNewVersion = false;
let touchedAt = performance.now();
/** The browser's own question, kept until somebody wants it. @type {any} */
let install = null;

/** @param {(view: string) => void} show */
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

/** Asks the browser's question. */
export const askToInstall = () => install?.prompt();

/** From here on "back" stays in the shift. */
export function holdBack() {
  if (history.state !== "shift") history.pushState("shift", "");
}

/** The page is left, or loaded anew, by its own doing. */
export function leavePage() {
  mayLeave = true;
  location.reload();
}

/** A new version is there: it is loaded where nothing is open and nobody is at the tablet. */
function loadQuietly() {
  const isQuiet = items.size === 0 && performance.now() - touchedAt > QUIET_MS && !document.querySelector("dialog[open]");
  if (hasNewVersion && isQuiet && live.connection?.state.name === "live") leavePage();
}
