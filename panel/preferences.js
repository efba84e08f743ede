/** The view of the settings. @module preferences */

import { knownOfNotifications, knownOfScreen } from "./device.js";
import { byId } from "./dom.js";
import { askToInstall } from "./leaveguard.js";
import { showHandover } from "./handover.js";
import { LANGUAGES, loadLanguage, t, spoken } from "./i18n.js";
import { live, showLight } from "./connection.js";
import { change, settings, USUAL_MINUTES } from "./settings.js";
import { options, setUpPrinting, showPrinting } from "./printsettings.js";
import { endShift, forgetDevice } from "./endshift.js";
import { askAgain, showGrant, tryOut } from "./shift.js";

const THEMES = ["", "light", "dark"];
const DENSITIES = ["large", "", "small"];
const POLL_SECONDS = [10, 30, 60];
const MINUTES = [10, 15, 20, 25, 30, 40, 45, 60, 90];
/** Types of orders that have their own usual minutes. */
const TYPES = ["delivery", "pickup", "dine_in"];

let isSetUp = false;

/** Shows the settings, and adds the listeners once. @param {() => void} redraw called when the language or the usual minutes have changed */
export function openPreferences(redraw) {
  if (!isSetUp) setUp(redraw);
  isSetUp = true;
  showPreferences();
}

/** @param {() => void} redraw */
function setUp(redraw) {
  byId("set-language").addEventListener("change", async (event) => {
    change({ language: event.target.value });
    await loadLanguage();
    showPreferences();
    redraw();
  });
  byId("set-theme").addEventListener("change", (event) => change({ theme: event.target.value }));
  byId("set-density").addEventListener("change", (event) => change({ density: event.target.value }));
  byId("set-poll").addEventListener("change", (event) => change({ pollSeconds: Number(event.target.value) }));
  byId("set-name").addEventListener("change", (event) => change({ name: event.target.value.trim().slice(0, 60) }));
  setUpPrinting();
  for (const type of TYPES) {
    byId(`set-minutes-${type}`).addEventListener("change", (event) => {
      change({ minutes: { ...settings.minutes, [type]: Number(event.target.value) } });
      redraw();
    });
  }
  byId("set-offline").addEventListener("change", (event) => {
    change({ offlineSound: event.target.checked });
    showLight();
  });
  document.querySelectorAll("[data-ring]").forEach((ring) => ring.addEventListener("click", () => tryOut(/** @type {import("./sound.js").Kind} */ (ring.dataset.ring))));
  byId("set-volume").addEventListener("change", (event) => {
    change({ volume: Number(event.target.value) });
    live.ringer.setVolume(settings.volume);
    tryOut("order");
  });
  byId("install").addEventListener("click", async () => {
    await askToInstall();
    byId("install").hidden = true;
  });
  const full = byId("full-screen");
  full.hidden = !document.fullscreenEnabled;
  full.addEventListener("click", () => (document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen()));
  document.addEventListener("fullscreenchange", () => full.setAttribute("aria-pressed", String(Boolean(document.fullscreenElement))));
  byId("handover").addEventListener("click", showHandover);
  byId("ask-again").addEventListener("click", askAgain);
  byId("end-shift").addEventListener("click", endShift);
  byId("forget").addEventListener("click", forgetDevice);
}

/** Fills in the current settings. */
export function showPreferences() {
  options("set-language", Object.entries(LANGUAGES), spoken());
  options("set-theme", THEMES.map((theme) => [theme, t(`theme.${theme || "auto"}`)]), settings.theme);
  options("set-density", DENSITIES.map((density) => [density, t(`density.${density || "usual"}`)]), settings.density);
  options("set-poll", POLL_SECONDS.map((s) => [String(s), t("set.seconds", { n: s })]), String(settings.pollSeconds));
  byId("set-name").value = settings.name;
  showPrinting();
  TYPES.forEach((type) => options(`set-minutes-${type}`, MINUTES.map((n) => [String(n), t("order.minutes", { n })]), String(settings.minutes[type] ?? USUAL_MINUTES)));
  byId("set-volume").value = String(settings.volume);
  byId("set-offline").checked = settings.offlineSound;
  showKnownGrants();
}

/** Shows the permissions whose state the page can read without a question to the person. */
export function showKnownGrants() {
  showGrant("sound", live.ringer.answer);
  showGrant("notifications", knownOfNotifications());
  showGrant("screen", knownOfScreen());
}
