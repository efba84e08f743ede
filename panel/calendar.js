/** Days and hours in the store's time zone. @module calendar */

import { spoken, t, timeFormat } from "./i18n.js";

/** The time with seconds. @param {Date|string|number} when */
export const exactTime = (when) => timeFormat("exact", { hour: "numeric", minute: "2-digit", second: "2-digit" }).format(new Date(when));

/** The hour in the store's time zone, 0 to 23. @param {number} when */
export const hourOf = (when) => Number(timeFormat("hour", { hour: "2-digit", hourCycle: "h23" }).formatToParts(new Date(when)).find(({ type }) => type === "hour")?.value);

/** The word for today or tomorrow, with its date. @param {number} when @param {0|1} offset days from today */
export function dayName(when, offset) {
  const word = new Intl.RelativeTimeFormat(spoken(), { numeric: "auto" }).format(offset, "day");
  const date = timeFormat("day", { day: "numeric", month: "long" }).format(new Date(when));
  return `${word[0].toUpperCase()}${word.slice(1)}, ${date}`;
}

/** The start of the current day in the store's time zone. */
export function startOfDay() {
  const parts = timeFormat("parts", { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" }).formatToParts(new Date());
  const of = (type) => Number(parts.find((part) => part.type === type)?.value ?? 0);
  return new Date(Date.now() - ((of("hour") * 60 + of("minute")) * 60 + of("second")) * 1000);
}

/** A number of seconds as text; below ten seconds with one decimal digit. @param {number} seconds */
export function seconds(seconds) {
  const digits = seconds < 10 ? 1 : 0;
  const number = new Intl.NumberFormat(spoken(), { maximumFractionDigits: digits }).format(seconds);
  return t("time.seconds", { n: number });
}
