/** The settings, as a person sees them. @module preferences */

import { knownOfNotifications, knownOfScreen } from "./device.js";
import { at } from "./dom.js";
import { LANGUAGES, loadLanguage, say, spoken } from "./i18n.js";
import { live, showLight } from "./live.js";
import { change, settings, USUAL_MINUTES } from "./settings.js";
import { options, setUpPrinting, showPrinting } from "./printsettings.js";
import { askAgain, endShift, forgetDevice, showGrant, tryOut } from "./shift.js";

const THEMES = ["", "light", "dark"];
const DENSITIES = ["large", "", "small"];
const POLL_SECONDS = [10, 30, 60];
const MINUTES = [10, 15, 20, 25, 30, 40, 45, 60, 90];
/** Types of orders that have usual minutes of their own. */
const TYPES = ["delivery", "pickup", "dine_in"];

let isSetUp = false;

/** Shows what is set, and listens. @param {() => void} redraw called when the words have changed */
export function openPreferences(redraw) {
  if (!isSetUp) setUp(redraw);
  isSetUp = true;
  showPreferences();
}

/** @param {() => void} redraw */
function setUp(redraw) {
  at("set-language").addEventListener("change", async (event) => {
    change({ language: event.target.value });
    await loadLanguage();
    showPreferences();
    redraw();
  });
  at("set-theme").addEventListener("change", (event) => change({ theme: event.target.value }));
  at("set-density").addEventListener("change", (event) => change({ density: event.target.value }));
  at("set-poll").addEventListener("change", (event) => change({ pollSeconds: Number(event.target.value) }));
  at("set-name").addEventListener("change", (event) => change({ name: event.target.value.trim().slice(0, 60) }));
  setUpPrinting();
  for (const type of TYPES) {
    at(`set-minutes-${type}`).addEventListener("change", (event) => {
      change({ minutes: { ...settings.minutes, [type]: Number(event.target.value) } });
      redraw();
    });
  }
  at("set-offline").addEventListener("change", (event) => {
    change({ offlineSound: event.target.checked });
    showLight();
  });
  document.querySelectorAll("[data-ring]").forEach((ring) => ring.addEventListener("click", () => tryOut(/** @type {import("./sound.js").Kind} */ (ring.dataset.ring))));
  at("set-volume").addEventListener("change", (event) => {
    change({ volume: Number(event.target.value) });
    live.ringer.setVolume(settings.volume);
    tryOut("order");
  });
  at("ask-again").addEventListener("click", askAgain);
  at("end-shift").addEventListener("click", endShift);
  at("forget").addEventListener("click", forgetDevice);
}

/** Fills in what is set. */
export function showPreferences() {
  options("set-language", Object.entries(LANGUAGES), spoken());
  options("set-theme", THEMES.map((theme) => [theme, say(`theme.${theme || "auto"}`)]), settings.theme);
  options("set-density", DENSITIES.map((density) => [density, say(`density.${density || "usual"}`)]), settings.density);
  options("set-poll", POLL_SECONDS.map((s) => [String(s), say("set.seconds", { n: s })]), String(settings.pollSeconds));
  at("set-name").value = settings.name;
  showPrinting();
  TYPES.forEach((type) => options(`set-minutes-${type}`, MINUTES.map((n) => [String(n), say("order.minutes", { n })]), String(settings.minutes[type] ?? USUAL_MINUTES)));
  at("set-volume").value = String(settings.volume);
  at("set-offline").checked = settings.offlineSound;
  showKnownGrants();
}

/** What the browser has granted so far, as far as it says so unasked. */
export function showKnownGrants() {
  showGrant("sound", live.ringer.answer);
  showGrant("notifications", knownOfNotifications());
  showGrant("screen", knownOfScreen());
}
