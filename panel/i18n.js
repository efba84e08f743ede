/** The words of the panel in the person's language. A new language needs a file in lang/ and an entry in `LANGUAGES`. @module i18n */

import { settings } from "./settings.js";

/** The languages, in the order of the menu. */
export const LANGUAGES = { ru: "Русский", en: "English" };
const DEFAULT = "ru";

/** @type {Record<string, any>} */
let words = {};
let language = DEFAULT;
let plurals = new Intl.PluralRules(DEFAULT);
let zone;
/** @type {Record<string, any>} */
let formats = {};

/** Loads the language that the person has chosen, else a language of the browser, else Russian. */
export async function loadLanguage() {
  const wanted = [settings.language, ...navigator.languages.map((name) => name.slice(0, 2))];
  language = wanted.find((name) => name in LANGUAGES) ?? DEFAULT;
  words = (await import(`./lang/${language}.js`)).default;
  plurals = new Intl.PluralRules(language);
  document.documentElement.lang = language;
  formats = {};
  translate(document);
}

/** The code of the current language, such as `en`. */
export const spoken = () => language;

/**
 * Sets the time zone of the store.
 * @param {string} [name] the IANA name; absent: the zone of the device
 * @returns {boolean} whether the zone has changed
 */
export function setZone(name) {
  const before = zone ?? new Intl.DateTimeFormat().resolvedOptions().timeZone;
  zone = name;
  formats = {};
  return zone !== before;
}

/**
 * The words for a key. If the words have several plural forms, the value `n` selects one of them.
 * @param {string} key such as `order.accept`
 * @param {Record<string, string|number>} [values] the values that replace {names} in the words
 * @returns {string}
 */
export function t(key, values = {}) {
  /** @type {any} */
  let found = key.split(".").reduce((part, name) => part?.[name], words);
  if (found && typeof found === "object") found = found[plurals.select(Number(values.n))] ?? found.other;
  if (typeof found !== "string") return key;
  return found.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}

/** Whether the language has words for a key. @param {string} key */
export const knows = (key) => t(key) !== key;

/** Fills elements that have `data-say` (text), `data-say-label` or `data-say-placeholder`. @param {ParentNode} root */
export function translate(root) {
  root.querySelectorAll("[data-say]").forEach((element) => (element.textContent = t(element.dataset.say)));
  root.querySelectorAll("[data-say-label]").forEach((element) => element.setAttribute("aria-label", t(element.dataset.sayLabel)));
  root.querySelectorAll("[data-say-placeholder]").forEach((element) => element.setAttribute("placeholder", t(element.dataset.sayPlaceholder)));
}

/** @param {string} name @param {() => any} make */
const format = (name, make) => (formats[name] ??= make());

/** @param {string} name @param {Intl.DateTimeFormatOptions} options */
export function timeFormat(name, options) {
  return format(name, () => {
    try {
      return new Intl.DateTimeFormat(language, { ...options, timeZone: zone });
    } catch {
      // This browser does not know the time zone of the store.
      return new Intl.DateTimeFormat(language, options);
    }
  });
}

/**
 * An exact amount with its currency. In Russian, a whole amount has no fraction.
 * @param {number} minor the amount in minor units
 * @param {string} currency three letters
 * @param {number} digits the number of digits after the decimal point
 */
export function money(minor, currency, digits) {
  const isWhole = language === "ru" && minor % 10 ** digits === 0;
  const shown = isWhole ? 0 : digits;
  const made = () => {
    /** @type {Intl.NumberFormatOptions} */
    const options = { style: "currency", currency, currencyDisplay: "narrowSymbol", minimumFractionDigits: shown, maximumFractionDigits: shown };
    try {
      return new Intl.NumberFormat(language, options);
    } catch {
      // The currency code is not valid.
      return new Intl.NumberFormat(language, { minimumFractionDigits: shown, maximumFractionDigits: shown });
    }
  };
  return format(`money ${currency} ${shown}`, made).format(minor / 10 ** digits);
}

/** Hours and minutes. @param {Date|string|number} when */
export const time = (when) => timeFormat("time", { hour: "numeric", minute: "2-digit" }).format(new Date(when));

/** A moment as text: today only the time, in this year the day and the time, otherwise also the year. @param {Date|string|number} when */
export function dayAndTime(when) {
  const date = new Date(when);
  const whole = timeFormat("year", { day: "numeric", month: "long", year: "numeric" });
  if (whole.format(date) === whole.format(new Date())) return time(date);
  const year = timeFormat("onlyYear", { year: "numeric" });
  const day = year.format(date) === year.format(new Date()) ? timeFormat("day", { day: "numeric", month: "long" }) : whole;
  return `${day.format(date)}, ${time(date)}`;
}

/** The day of a moment in the store's time zone, as text. Two moments of one day give equal texts. @param {number} when milliseconds */
export const dayOf = (when) => timeFormat("year", { day: "numeric", month: "long", year: "numeric" }).format(new Date(when));

/** A running clock: minutes and seconds; from one hour on, hours and minutes; from one day on, days. @param {number} ms */
export function clock(ms) {
  const seconds = Math.floor(ms / 1000);
  const two = (n) => String(n).padStart(2, "0");
  if (seconds < 3600) return `${Math.floor(seconds / 60)}:${two(seconds % 60)}`;
  const hours = Math.floor(seconds / 3600);
  return hours < 24 ? t("time.hours", { n: hours, m: Math.floor(seconds / 60) % 60 }) : t("time.days", { n: Math.floor(hours / 24) });
}
