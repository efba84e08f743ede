/** What the page asks of the tablet: to stay awake, to show notifications, to vibrate. @module device */

import { t } from "./i18n.js";

/** @typedef {"granted"|"refused"|"missing"|"open"} Answer open: not given yet */

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

// The browser takes the lock back whenever the page is hidden.
document.addEventListener("visibilitychange", () => wantsLock && !document.hidden && keepAwake());

/** Asks for notifications, within a person's press. @returns {Promise<Answer>} */
export async function askForNotifications() {
  await window.Notification?.requestPermission().catch(() => {});
  return knownOfNotifications();
}

/** What a person has answered to that so far. @returns {Answer} */
export function knownOfNotifications() {
  if (!("Notification" in window)) return "missing";
  return { granted: "granted", default: "open" }[Notification.permission] ?? "refused";
}

/**
 * Tells a person who looks elsewhere. Nothing where the page is before their eyes.
 * @param {string} title
 * @param {string} body
 * @param {string} tag a later one with the same tag replaces it
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

/** Takes away what is no longer so. @param {string} tag */
export async function closeNotification(tag) {
  const worker = await navigator.serviceWorker?.getRegistration().catch(() => undefined);
  const shown = (await worker?.getNotifications({ tag })) ?? [];
  shown.forEach((notification) => notification.close());
}

/** @param {number[]} pattern milliseconds */
export function vibrate(pattern) {
  if (navigator.userActivation?.hasBeenActive) navigator.vibrate?.(pattern);
}

/** The worker that keeps the shell; never an event. */
export function keepShell() {
  navigator.serviceWorker?.register("/sw.js").catch((error) => console.info(t("shift.noWorker"), error.message));
}
