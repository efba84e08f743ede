/** Charts for a manager: which channel was the first to bring each order, and how soon a person answered. @module stats */

import { byId, h } from "./dom.js";
import { t } from "./i18n.js";

const MINUTE_S = 60;
const CHANNELS = ["websocket", "sse", "polling", "telegram", "none"];

/** Shows the charts. @param {Promise<any>} asked the summary from the server */
export async function showFigures(asked) {
  const figures = await asked;
  byId("figures").replaceChildren(...(figures ? [channels(figures), waits(figures)] : []));
}

/**
 * A bar chart. Each bar has a label and a number as text, so that a person need not see the bar itself.
 * @param {string} title
 * @param {{name: string, label: string, count: number}[]} bars
 * @param {string} style
 */
function chart(title, bars, style) {
  const most = Math.max(1, ...bars.map((bar) => bar.count));
  const rows = bars.map(({ name, label, count }) => {
    const bar = h("span", { class: "bar", data: { name } });
    bar.style.setProperty("--share", String(count / most));
    return h("li", {}, h("span", { class: "bar-label", text: label }), h("span", { class: "bar-place", "aria-hidden": "true" }, bar), h("b", { text: String(count) }));
  });
  return h("figure", { class: `chart ${style}` }, h("figcaption", { text: title }), h("ul", {}, ...rows));
}

/** The chart of how many orders each channel was the first to bring. @param {any} figures */
function channels({ first_seen: seen = {} }) {
  const bars = CHANNELS.filter((channel) => seen[channel] || channel === "websocket" || channel === "polling" || channel === "telegram").map((channel) => ({ name: channel, label: t(`channel.${channel}`), count: seen[channel] ?? 0 }));
  return chart(t("figures.channels"), bars, "chart-channels");
}

/** The chart of how long orders waited until a person noticed or answered them. @param {any} figures */
function waits({ acknowledge_seconds: waits }) {
  let from = 0;
  const bars = (waits?.buckets ?? []).map(({ le, count }) => {
    const isMinutes = from >= MINUTE_S;
    const [since, until] = isMinutes ? [from / MINUTE_S, le / MINUTE_S] : [from, le];
    const label = le === null ? t("figures.longer", { n: since }) : t(isMinutes ? "figures.upToMinutes" : "figures.upTo", { from: since, to: until });
    from = le;
    return { name: le === null ? "longer" : "upTo", label, count };
  });
  return chart(t("figures.waits"), bars, "chart-waits");
}
