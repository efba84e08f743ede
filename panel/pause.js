/** The store is closed for a while: shown to all, begun and ended by anybody who may press. @module pause */

import { button } from "./dom.js";
import { now } from "./facts.js";
import { dayAndTime, t } from "./i18n.js";
import { live, notice, clearNotice } from "./connection.js";
import { settings } from "./settings.js";
import { toast } from "./toast.js";
import { reasonOf } from "./actions.js";

/** @typedef {{since: string, until: string, by?: string, reason?: string}} Pause */

/** The pause that is now, if any. @type {Pause|null} */
let pause = null;
let timer = 0;

/** What the server says of it: the store's card, an event, or an answer. @param {Pause|null|undefined} told */
export function setPause(told) {
  pause = told?.until ? told : null;
  showPause();
}

/** Shows it, in the language that is spoken now, until its time is over. */
export function showPause() {
  clearTimeout(timer);
  const left = pause ? Date.parse(pause.until) - now() : 0;
  document.body.dataset.paused = String(left > 0);
  if (left <= 0) return clearNotice("pause");
  // A browser counts no further than 24 days; a pause is a week at most.
  timer = setTimeout(showPause, left);
  const title = t("pause.now", { time: dayAndTime(pause.until) });
  const words = [pause.by, pause.reason].filter(Boolean).join(" · ") || t("pause.nowWhy");
  notice("pause", "warning", "pause", title, words, button("pause-end", null, t("pause.end"), end));
}

/** @param {{minutes?: number, until?: string}} span @returns {Promise<boolean>} whether it is paused */
export const beginPause = (span) => change(() => live.connection.api.setPause({ ...span, by: settings.name || undefined }));

const end = () => change(() => live.connection.api.endPause(settings.name));

/** @param {() => Promise<any>} ask */
async function change(ask) {
  try {
    setPause(await ask());
    return true;
  } catch (error) {
    toast(t("pause.failed"), { kind: "problem", detail: reasonOf(error), sign: "stop", about: "pause" });
    return false;
  }
}
