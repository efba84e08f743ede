/** The settings, as a person sees them. @module preferences */

import { knownOfNotifications } from "./device.js";
import { at, h } from "./dom.js";
import { LANGUAGES, loadLanguage, say, spoken } from "./i18n.js";
import { live, showLight } from "./live.js";
import { change, settings } from "./settings.js";
import { askAgain, endShift, showGrant, tryOut } from "./shift.js";

const THEMES = ["", "light", "dark"];
const POLL_SECONDS = [10, 30, 60];

/** @param {() => void} redraw called when the words have changed */
export function setUpPreferences(redraw) {
  at("set-language").addEventListener("change", async (event) => {
    change({ language: event.target.value });
    await loadLanguage();
    showPreferences();
    redraw();
  });
  at("set-theme").addEventListener("change", (event) => change({ theme: event.target.value }));
  at("set-poll").addEventListener("change", (event) => change({ pollSeconds: Number(event.target.value) }));
  at("set-name").addEventListener("change", (event) => change({ name: event.target.value.trim().slice(0, 60) }));
  at("set-print").addEventListener("change", (event) => change({ autoPrint: event.target.checked }));
  at("set-offline").addEventListener("change", (event) => {
    change({ offlineSound: event.target.checked });
    showLight();
  });
  document.querySelectorAll("[data-ring]").forEach((ring) => ring.addEventListener("click", () => tryOut(ring.dataset.ring)));
  at("ask-again").addEventListener("click", askAgain);
  at("end-shift").addEventListener("click", endShift);
  showPreferences();
}

/** Fills in what is set. */
export function showPreferences() {
  options("set-language", Object.entries(LANGUAGES), spoken());
  options("set-theme", THEMES.map((theme) => [theme, say(`theme.${theme || "auto"}`)]), settings.theme);
  options("set-poll", POLL_SECONDS.map((s) => [String(s), say("set.seconds", { n: s })]), String(settings.pollSeconds));
  at("set-name").value = settings.name;
  at("set-print").checked = settings.autoPrint;
  at("set-offline").checked = settings.offlineSound;
  showKnownGrants();
}

/** What the browser has granted so far, as far as it says so unasked. */
export function showKnownGrants() {
  showGrant("sound", live.ringer.answer);
  showGrant("notifications", knownOfNotifications());
  if (!at("grant-screen").dataset.answer) showGrant("screen", "wakeLock" in navigator ? "refused" : "missing");
  else showGrant("screen", at("grant-screen").dataset.answer);
}

/** @param {string} id @param {string[][]} choices @param {string} chosen */
function options(id, choices, chosen) {
  at(id).replaceChildren(...choices.map(([value, text]) => h("option", { value, text, selected: value === chosen })));
}
