/** The start of a shift: what opens the store, and one press that unlocks sound, notifications and the screen. @module shift */

import { askForNotifications, keepAwake, letSleep } from "./device.js";
import { at, button, h, icon } from "./dom.js";
import { leavePage } from "./guard.js";
import { LANGUAGES, loadLanguage, say, spoken } from "./i18n.js";
import { live, notice, unnotice } from "./live.js";
import { forgetBoard } from "./keep.js";
import { items } from "./orders.js";
import { forgetPrints } from "./prints.js";
import { forgetQueue } from "./queue.js";
import { change, forgetKey, keepKey, keepsThings, setStarted, settings } from "./settings.js";
import { Api, ApiError } from "./vestnik.js";

/** @type {(key: import("./settings.js").Key) => void} */
let begin = () => {};

/**
 * @param {(key: import("./settings.js").Key) => void} started called when the store is open
 * @param {() => void} redraw called when the words have changed
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
  const showLanguages = () => at("shift-languages").replaceChildren(...Object.entries(LANGUAGES).map(([language, name]) => button("quiet", null, name, () => choose(language), { lang: language, "aria-pressed": String(language === spoken()) })));
  showLanguages();
  at("shift-form").addEventListener("submit", (event) => {
    event.preventDefault();
    start();
  });
  at("shift-ring").addEventListener("click", () => tryOut());
}

/**
 * @param {(import("./settings.js").Key & {remembered?: boolean})|null} key
 * @param {string} [problem] why it has to be asked for again
 */
export function showShift(key, problem = "") {
  document.body.dataset.view = "shift";
  at("shift-store").value = key?.store ?? "";
  at("shift-token").value = key?.token ?? "";
  at("shift-name").value = settings.name;
  at("shift-remember").checked = key?.remembered ?? false;
  at("shift-remember").parentElement.hidden = !keepsThings();
  // A link brings both: then there is nothing to type.
  at("shift-key").hidden = Boolean(key) && !problem;
  at("shift-known").hidden = !at("shift-key").hidden;
  showKnown();
  showProblem(problem);
  at("shift-start").focus();
}

function showKnown() {
  at("shift-known").textContent = say("shift.known", { store: at("shift-store").value });
}

/** @param {string} problem */
function showProblem(problem) {
  at("shift-problem").hidden = !problem;
  at("shift-problem").textContent = problem;
}

async function start() {
  const key = { store: at("shift-store").value.trim(), token: at("shift-token").value.trim() };
  if (!key.store || !key.token) {
    at("shift-key").hidden = false;
    at("shift-known").hidden = true;
    showProblem(say("shift.incomplete"));
    return at(key.store ? "shift-token" : "shift-store").focus();
  }
  change({ name: at("shift-name").value.trim().slice(0, 60) });
  at("shift-start").disabled = true;
  showProblem("");
  const asked = askBrowser();
  const [refusal] = await Promise.all([refusalOf(key), asked.sound]);
  at("shift-start").disabled = false;
  if (refusal) {
    at("shift-key").hidden = false;
    at("shift-known").hidden = true;
    return showProblem(refusal);
  }
  keepKey(key, at("shift-remember").checked);
  setStarted(true);
  begin(key);
  showAnswers(asked);
}

/** @typedef {import("./device.js").Answer} Answer */

/**
 * Asks for all of it within the one press: a browser grants nothing after it. Nobody waits for what a person has to answer,
 * for that may never come.
 * @returns {Record<"sound"|"notifications"|"screen", Promise<Answer>>}
 */
function askBrowser() {
  const sound = live.ringer.unlock().then(() => live.ringer.answer);
  return { sound, notifications: askForNotifications(), screen: keepAwake() };
}

/** Rings once, and shows whether it was heard. @param {import("./sound.js").Kind} [kind] */
export async function tryOut(kind) {
  const heard = await live.ringer.test(kind);
  const { answer } = live.ringer;
  showGrant("sound", answer === "granted" && !heard ? "refused" : answer);
}

/** Asks once more what was not granted. */
export const askAgain = () => showAnswers(askBrowser());

/** @param {import("./settings.js").Key} key */
async function refusalOf(key) {
  try {
    await new Api(key).session();
    return "";
  } catch (error) {
    // A server that is away is waited for on the board.
    if (!(error instanceof ApiError) || error.status >= 500) return "";
    const words = say(`stopped.${error.code}`);
    return words === `stopped.${error.code}` ? error.message : words;
  }
}

/** What the browser refused. @type {[string, Answer][]} */
let refused = [];

/** What the browser answers, as it answers: in the settings; and on the board what it refused, and what that means. */
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

/** Says what was refused, in the language that is spoken now. */
export function showRefused() {
  if (!refused.length) return unnotice("grants");
  const words = refused.map(([name, answer]) => `${say(`grant.${name}.name`)} ${say(`grant.${name}.${answer}`)}`).join(" ");
  const close = () => {
    refused = [];
    showRefused();
  };
  notice("grants", "warning", "screen", say("notice.grants"), words, h("button", { type: "button", class: "round", "aria-label": say("toast.close"), on: { click: close } }, icon("cross")));
}

/** @param {string} name @param {Answer} answer */
export function showGrant(name, answer) {
  const row = at(`grant-${name}`);
  row.dataset.answer = answer;
  row.replaceChildren(icon({ granted: "check", open: "clock" }[answer] ?? "cross"), h("span", {}, h("b", { text: say(`grant.${name}.name`) }), h("small", { text: say(`grant.${name}.${answer}`) })));
}

/** @param {{title: string, words: string, yes: string, no: string}} question */
const ask = (question) => import("./ask.js").then(({ ask }) => ask(question));

/** The end of the shift: this page rings no more. A remembered key stays, so that the next one begins with one press. */
export async function endShift() {
  const count = (kind) => [...items.values()].filter((item) => item.kind === kind).length;
  const open = ["orders", "bookings"].filter(count).map((kind) => say(`set.open.${kind}`, { n: count(kind) }));
  const words = open.length ? say("set.endOpen", { open: open.join(", ") }) : say("set.endCalm");
  if (await ask({ title: say("set.endAsk"), words, yes: say("set.endNow"), no: say("order.back") })) leave();
}

/** Takes the key off this device, too. */
export async function forgetDevice() {
  if (!(await ask({ title: say("set.forgetAsk"), words: say("set.forgetWords"), yes: say("set.forgetNow"), no: say("order.back") }))) return;
  forgetPrints();
  leave();
  forgetKey();
}

function leave() {
  live.connection?.close();
  live.connection = null;
  forgetBoard();
  forgetQueue();
  letSleep();
  setStarted(false);
  leavePage();
}
