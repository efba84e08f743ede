/** The panel's words, in the person's language. Another language: a file in lang/, and a line here. @module i18n */

import { settings } from "./settings.js";

/** In the order in which they are offered. */
export const LANGUAGES = { ru: "Русский", en: "English" };
const DEFAULT = "ru";

/** @type {Record<string, any>} */
let words = {};
let language = DEFAULT;
let plurals = new Intl.PluralRules(DEFAULT);
let store = { currency: "RUB", time_zone: undefined };
/** @type {Record<string, any>} */
let formats = {};

/** Loads the chosen language, or the browser's, or Russian. */
export async function loadLanguage() {
  const wanted = [settings.language, ...navigator.languages.map((name) => name.slice(0, 2))];
  language = wanted.find((name) => name in LANGUAGES) ?? DEFAULT;
  words = (await import(`./lang/${language}.js`)).default;
  plurals = new Intl.PluralRules(language);
  document.documentElement.lang = language;
  formats = {};
  translate(document);
}

/** The language that is spoken. */
export const spoken = () => language;

/** How the store writes money and time. @param {{currency?: string, time_zone?: string}} known */
export function setStore(known) {
  store = { currency: known.currency ?? "RUB", time_zone: known.time_zone };
  formats = {};
}

/**
 * The words for a key. A value that is an object is chosen by the plural of `n`.
 * @param {string} key such as `order.accept`
 * @param {Record<string, string|number>} [values] put in for {names}
 * @returns {string}
 */
export function say(key, values = {}) {
  let found = key.split(".").reduce((part, name) => part?.[name], words);
  if (found && typeof found === "object") found = found[plurals.select(Number(values.n))] ?? found.other;
  if (typeof found !== "string") return key;
  return found.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}

/** Whether there are words for a key. @param {string} key */
export const knows = (key) => say(key) !== key;

/** Fills `data-say` (text), `data-say-label` and `data-say-placeholder`. @param {ParentNode} root */
export function translate(root) {
  root.querySelectorAll("[data-say]").forEach((element) => (element.textContent = say(element.dataset.say)));
  root.querySelectorAll("[data-say-label]").forEach((element) => element.setAttribute("aria-label", say(element.dataset.sayLabel)));
  root.querySelectorAll("[data-say-placeholder]").forEach((element) => element.setAttribute("placeholder", say(element.dataset.sayPlaceholder)));
}

/** @param {string} name @param {() => any} make */
const format = (name, make) => (formats[name] ??= make());

/** @param {string} name @param {Intl.DateTimeFormatOptions} options */
function timeFormat(name, options) {
  return format(name, () => {
    try {
      return new Intl.DateTimeFormat(language, { ...options, timeZone: store.time_zone });
    } catch {
      // A time zone that this browser does not know.
      return new Intl.DateTimeFormat(language, options);
    }
  });
}

/** Of a number of minor units; a shop's own words stay as they are. @param {number|string} minor */
export function money(minor) {
  if (minor === "" || !Number.isFinite(Number(minor))) return String(minor);
  const currency = format("money", () => {
    const digits = (least) => ({ style: "currency", currency: store.currency, currencyDisplay: "narrowSymbol", minimumFractionDigits: least });
    return { whole: new Intl.NumberFormat(language, digits(0)), exact: new Intl.NumberFormat(language, digits(undefined)) };
  });
  const unit = 10 ** currency.exact.resolvedOptions().maximumFractionDigits;
  return (minor % unit === 0 ? currency.whole : currency.exact).format(minor / unit);
}

/** Hours and minutes. @param {Date|string} when */
export const time = (when) => timeFormat("time", { hour: "2-digit", minute: "2-digit" }).format(new Date(when));

/** With seconds. @param {Date|string} when */
export const exactTime = (when) =>
  timeFormat("exact", { hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(new Date(when));

/** Day and time; only the time where it is today. A shop's own words stay as they are. @param {Date|string} when */
export function dayAndTime(when) {
  const day = timeFormat("day", { day: "numeric", month: "long" });
  const date = new Date(when);
  if (Number.isNaN(date.getTime())) return String(when);
  return day.format(date) === day.format(new Date()) ? time(date) : `${day.format(date)}, ${time(date)}`;
}

/** A span of time, short. @param {number} ms */
export function span(ms) {
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 1) return say("time.now");
  if (minutes < 60) return say("time.minutes", { n: minutes });
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return say("time.hours", { n: hours, m: minutes % 60 });
  return say("time.days", { n: Math.floor(hours / 24) });
}

/** Seconds, with as many digits as mean something. @param {number} seconds */
export function seconds(seconds) {
  const digits = seconds < 10 ? 1 : 0;
  const number = new Intl.NumberFormat(language, { maximumFractionDigits: digits }).format(seconds);
  return say("time.seconds", { n: number });
}
