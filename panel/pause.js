/** The pauses of the stores. The page shows each pause, and any person with a key that allows changes can begin or end one. @module pause */

import { button } from "./dom.js";
import { now } from "./facts.js";
import { dayAndTime, t } from "./i18n.js";
import { clearStoreNotice, connectionOf, live, storeNotice } from "./connection.js";
import { settings } from "./settings.js";
import { toast } from "./toast.js";

/** @typedef {{since: string, until: string, by?: string, reason?: string}} Pause */

/** The current pause of each store. @type {Map<string, Pause>} */
const pauses = new Map();
let timer = 0;

/**
 * Saves the pause of a store that the server has sent in the description of the store, in an event, or in a response.
 * @param {string} store
 * @param {Pause|null|undefined} told
 */
export function setPause(store, told) {
  if (told?.until) pauses.set(store, told);
  else pauses.delete(store);
  showPause();
}

/** Shows the current pauses in the current language. Runs again when the first of them ends. */
export function showPause() {
  clearTimeout(timer);
  const left = [...live.stores.keys()].map(showOne).filter((left) => left > 0);
  document.body.dataset.paused = String(left.length > 0 && left.length === live.stores.size);
  // A browser's timer can wait for 24 days at most. A pause lasts one week at most, so one timer is enough.
  if (left.length) timer = setTimeout(showPause, Math.min(...left));
}

/** Shows the pause of a store, or removes its notice. @param {string} store @returns {number} how long the pause still lasts, milliseconds; 0 if there is none */
function showOne(store) {
  const pause = pauses.get(store);
  const left = pause ? Date.parse(pause.until) - now() : 0;
  if (left <= 0) return clearStoreNotice(store, "pause"), 0;
  const title = t("pause.now", { time: dayAndTime(pause.until) });
  const words = [pause.by, pause.reason].filter(Boolean).join(" · ") || t("pause.nowWhy");
  const end = () => change(store, (api) => api.endPause(settings.name));
  storeNotice(store, "pause", "warning", "pause", title, words, button("pause-end", null, t("pause.end"), end));
  return left;
}

/** Asks the server to pause a store. @param {string} store @param {{minutes?: number, until?: string}} span @returns {Promise<boolean>} whether the store is paused */
export const beginPause = (store, span) => change(store, (api) => api.setPause({ ...span, by: settings.name || undefined }));

/** Changes the pause of a store on the server, and shows the result. @param {string} store @param {(api: import("./vestnik.js").Api) => Promise<any>} ask sends the request */
async function change(store, ask) {
  try {
    setPause(store, await ask(connectionOf(store).api));
    return true;
  } catch (error) {
    const { reasonOf } = await import("./actionfailure.js");
    toast(t("pause.failed"), { kind: "problem", detail: reasonOf(error), sign: "stop", about: "pause" });
    return false;
  }
}
