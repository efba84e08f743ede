/** Functions of the tablet: keep the screen on, show notifications, vibrate. @module device */

import { t } from "./i18n.js";

/** @typedef {"granted"|"refused"|"missing"|"open"} Answer whether the browser permits a function; open: the person has not answered yet; missing: the browser does not have the function */

/** @type {WakeLockSentinel|null} */
let lock = null;
let wantsLock = false;

/** Keeps the screen on. @returns {Promise<Answer>} */
export async function keepAwake() {
  wantsLock = true;
  if (!("wakeLock" in navigator)) return "missing";
  if (lock && !lock.released) return "granted";
  try {
    lock = await navigator.wakeLock.request("screen");
    return "granted";
  } catch {
    return "refused";
  }
}

/** Whether the screen is kept on. @returns {Answer} */
export function knownOfScreen() {
  if (!("wakeLock" in navigator)) return "missing";
  return lock && !lock.released ? "granted" : "refused";
}

/** Lets the screen turn off again at the end of the shift. */
export function letSleep() {
  wantsLock = false;
  lock?.release();
  lock = null;
}

// The browser releases the wake lock when the page is hidden, so request it again.
document.addEventListener("visibilitychange", () => wantsLock && !document.hidden && keepAwake());

/** Asks for the permission to show notifications. A browser shows its question only while it handles a press. @returns {Promise<Answer>} */
export async function askForNotifications() {
  await window.Notification?.requestPermission().catch(() => {});
  return knownOfNotifications();
}

/** The current state of the permission to show notifications. @returns {Answer} */
export function knownOfNotifications() {
  if (!("Notification" in window)) return "missing";
  return { granted: "granted", default: "open" }[Notification.permission] ?? "refused";
}

/**
 * Shows a notification, if the page is hidden.
 * @param {string} title
 * @param {string} body
 * @param {string} tag a later notification with the same tag replaces this one
 */
export async function notify(title, body, tag) {
  if (!document.hidden || !("Notification" in window) || Notification.permission !== "granted") return;
  const options = { body, tag, icon: "/panel/icon-192.png", badge: "/panel/icon-192.png", requireInteraction: true, lang: document.documentElement.lang };
  const worker = await navigator.serviceWorker?.getRegistration().catch(() => undefined);
  // On Android only a service worker can show a notification.
  if (worker?.active) return worker.showNotification(title, options).catch(() => {});
  const shown = new Notification(title, options);
  shown.onclick = () => {
    window.focus();
    shown.close();
  };
}

/** Closes the notifications that have this tag. @param {string} tag */
export async function closeNotification(tag) {
  const worker = await navigator.serviceWorker?.getRegistration().catch(() => undefined);
  const shown = (await worker?.getNotifications({ tag })) ?? [];
  shown.forEach((notification) => notification.close());
}

/** Vibrates, if the device can. @param {number[]} pattern the lengths of vibrations and pauses in turn, milliseconds */
export function vibrate(pattern) {
  if (navigator.userActivation?.hasBeenActive) navigator.vibrate?.(pattern);
}

/** Registers the service worker, which caches the files of the page, but no events. */
export function keepShell() {
  navigator.serviceWorker?.register("/sw.js").catch((error) => console.info(t("shift.noWorker"), error.message));
}
