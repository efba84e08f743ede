/** The start of a shift: a person enters the key, and one press unlocks sound, notifications and screen. @module shift */

import { askForNotifications, keepAwake } from "./device.js";
import { byId, button, h, icon } from "./dom.js";
import { LANGUAGES, loadLanguage, t, spoken } from "./i18n.js";
import { live, notice, clearNotice } from "./connection.js";
import { change, keepKey, keepsThings, keysOf, MOST_STORES, setStarted, settings } from "./settings.js";
import { Api, ApiError } from "./vestnik.js";

/** @type {(key: import("./settings.js").Key) => void} */
let begin = () => {};

/**
 * @param {(key: import("./settings.js").Key) => void} started called when a shift has started
 * @param {() => void} redraw called when the language has changed
 */
export function setUpShift(started, redraw) {
  begin = started;
  const choose = async (language) => {
    change({ language });
    await loadLanguage();
    showLanguages();
    showKnown();
    redraw();
  };
  const showLanguages = () => byId("shift-languages").replaceChildren(...Object.entries(LANGUAGES).map(([language, name]) => button("quiet", null, name, () => choose(language), { lang: language, "aria-pressed": String(language === spoken()) })));
  showLanguages();
  byId("shift-form").addEventListener("submit", (event) => {
    event.preventDefault();
    start();
  });
  byId("shift-ring").addEventListener("click", () => tryOut());
}

/**
 * @param {(import("./settings.js").Key & {remembered?: boolean})|null} key
 * @param {string} [problem] why the person must enter the key again
 */
export function showShift(key, problem = "") {
  document.body.dataset.view = "shift";
  byId("shift-store").value = key?.store ?? "";
  byId("shift-token").value = key?.token ?? "";
  byId("shift-name").value = settings.name;
  byId("shift-remember").checked = key?.remembered ?? false;
  byId("shift-remember").parentElement.hidden = !keepsThings();
  // If the page knows the store and the token already, hide the fields for them.
  byId("shift-key").hidden = Boolean(key) && !problem;
  byId("shift-known").hidden = !byId("shift-key").hidden;
  showKnown();
  showProblem(problem);
  byId("shift-start").focus();
}

function showKnown() {
  byId("shift-known").textContent = wordsFor(byId("shift-store").value);
}

/** The words that name the store or stores of a key. @param {string} store one store, or several with commas */
function wordsFor(store) {
  const stores = store.split(",");
  return t("shift.known", { store: stores.join(", "), n: stores.length });
}

/** @param {string} problem */
function showProblem(problem) {
  byId("shift-problem").hidden = !problem;
  byId("shift-problem").textContent = problem;
}

async function start() {
  const key = { store: byId("shift-store").value.trim(), token: byId("shift-token").value.trim() };
  if (!key.store || !key.token) {
    byId("shift-key").hidden = false;
    byId("shift-known").hidden = true;
    showProblem(t("shift.incomplete"));
    return byId(key.store ? "shift-token" : "shift-store").focus();
  }
  change({ name: byId("shift-name").value.trim().slice(0, 60) });
  byId("shift-start").disabled = true;
  showProblem("");
  const asked = askBrowser();
  const [refusal] = await Promise.all([refusalOf(key), asked.sound]);
  byId("shift-start").disabled = false;
  if (refusal) {
    byId("shift-key").hidden = false;
    byId("shift-known").hidden = true;
    return showProblem(refusal);
  }
  keepKey(key, byId("shift-remember").checked);
  setStarted(true);
  begin(key);
  showAnswers(asked);
}

/** @typedef {import("./device.js").Answer} Answer */

/**
 * Asks for all permissions at once, because a browser grants them only while it handles a press. The caller must not
 * wait for the answers: a person may never answer.
 * @returns {Record<"sound"|"notifications"|"screen", Promise<Answer>>}
 */
function askBrowser() {
  const sound = live.ringer.unlock().then(() => live.ringer.answer);
  return { sound, notifications: askForNotifications(), screen: keepAwake() };
}

/** Plays a test sound, and shows whether the browser has played it. @param {import("./sound.js").Kind} [kind] */
export async function tryOut(kind) {
  const heard = await live.ringer.test(kind);
  const { answer } = live.ringer;
  showGrant("sound", answer === "granted" && !heard ? "refused" : answer);
}

/** Asks for all permissions again. */
export const askAgain = () => showAnswers(askBrowser());

/**
 * Asks the server about the key of each store. Returns the first refusal in words, or "" if the server refuses no key.
 * @param {import("./settings.js").Key} key
 * @returns {Promise<string>}
 */
async function refusalOf(key) {
  const keys = keysOf(key);
  if (keys.length === 1) return refusalOfOne(keys[0]);
  if (keys.length > MOST_STORES) return t("shift.many", { n: MOST_STORES });
  const refusals = await Promise.all(keys.map(refusalOfOne));
  const at = refusals.findIndex(Boolean);
  return at < 0 ? "" : `${t("bar.store", { store: keys[at].store })}: ${refusals[at]}`;
}

/** The refusal of the key of one store in words; "" if the server does not refuse the key. @param {import("./settings.js").Key} key */
async function refusalOfOne(key) {
  try {
    await new Api(key).session();
    return "";
  } catch (error) {
    // If the server cannot be reached, the shift starts all the same, and the page connects later.
    if (!(error instanceof ApiError) || error.status >= 500) return "";
    const words = t(`stopped.${error.code}`);
    return words === `stopped.${error.code}` ? error.message : words;
  }
}

/** The permissions that the browser has refused. @type {[string, Answer][]} */
let refused = [];

/** Shows each permission in the settings as soon as the browser answers. A refused permission also gets a notice above the board. */
function showAnswers(asked) {
  refused = [];
  showRefused();
  for (const [name, answered] of Object.entries(asked)) {
    answered.then((answer) => {
      showGrant(name, answer);
      if (answer === "granted" || name === "sound") return;
      refused.push([name, answer]);
      showRefused();
    });
  }
}

/** Names the refused permissions, in the current language. */
export function showRefused() {
  if (!refused.length) return clearNotice("grants");
  const words = refused.map(([name, answer]) => `${t(`grant.${name}.name`)} ${t(`grant.${name}.${answer}`)}`).join(" ");
  const close = () => {
    refused = [];
    showRefused();
  };
  notice("grants", "warning", "screen", t("notice.grants"), words, h("button", { type: "button", class: "round", "aria-label": t("toast.close"), on: { click: close } }, icon("cross")));
}

/** Shows the state of one permission in the settings. @param {string} name `sound`, `notifications` or `screen` @param {Answer} answer */
export function showGrant(name, answer) {
  const row = byId(`grant-${name}`);
  row.dataset.answer = answer;
  row.replaceChildren(icon({ granted: "check", open: "clock" }[answer] ?? "cross"), h("span", {}, h("b", { text: t(`grant.${name}.name`) }), h("small", { text: t(`grant.${name}.${answer}`) })));
}
