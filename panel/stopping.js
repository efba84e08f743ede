/** The stop list in a dialog: an item is put on it by one tap, for as long as was chosen, and taken off by another. @module stopping */

import { at, button, h } from "./dom.js";
import { dayAndTime, say } from "./i18n.js";
import { live } from "./live.js";
import { closed, items } from "./orders.js";
import { settings } from "./settings.js";
import { outOfStock, setStock } from "./stock.js";
import { reasonOf } from "./work.js";

/** For how long: what the server is asked for. */
const SPANS = { tomorrow: { until: "tomorrow" }, hour: { minutes: 60 }, open: {} };
/** Orders whose dishes are offered: those of the last days. */
const ORDERS = 500;
const DAYS_MS = 7 * 24 * 3_600_000;
/** Dishes that are offered at once. */
const MOST = 24;

let span = "tomorrow";
/** Dishes of the last days, the most ordered first. @type {string[]} */
let dishes = [];

document.addEventListener("vestnik:stock", () => at("stock").open && showStopped());

export function openStock() {
  const dialog = at("stock");
  const spans = Object.keys(SPANS).map((name) => button("quiet", null, say(`stock.for.${name}`), () => choose(name), { data: { stockSpan: name } }));
  const words = h("input", { id: "stock-words", type: "text", maxlength: 200, autocomplete: "off", enterkeyhint: "done", "aria-label": say("stock.like"), placeholder: say("stock.like"), on: { input: showDishes } });
  dialog.replaceChildren(
    h("h2", { id: "stock-title", text: say("stock.title") }),
    h("p", { text: say("stock.words") }),
    h("p", { id: "stock-problem", class: "shift-problem", role: "alert" }),
    h("div", { id: "stock-stopped" }),
    h("h3", { text: say("stock.add") }),
    h("div", { class: "rings", role: "group", "aria-label": say("stock.for.label") }, ...spans),
    h("form", { class: "stock-form", on: { submit: addWords } }, words, h("button", { class: "yes", text: say("stock.stop") })),
    h("ul", { id: "stock-dishes", class: "stock-dishes", "aria-label": say("stock.dishes") }),
    h("div", { class: "card-actions" }, button("quiet stock-close", null, say("order.close"), () => dialog.close())),
  );
  choose(span);
  showStopped();
  dialog.showModal();
  learnDishes();
}

/** @param {string} name of a span */
function choose(name) {
  span = name;
  at("stock").querySelectorAll("[data-stock-span]").forEach((one) => one.setAttribute("aria-pressed", String(one.dataset.stockSpan === name)));
}

/** What the store is out of, each with a way back. */
function showStopped() {
  /** @param {import("./stock.js").OutOfStock} one */
  const row = ({ item, until, by }) => {
    const words = [until ? say("stock.until", { time: dayAndTime(until) }) : say("stock.open"), by].filter(Boolean).join(" · ");
    return h("li", { data: { stopped: item } }, h("p", {}, h("strong", { text: item }), h("span", { text: words })), button("quiet", null, say("stock.back"), () => putBack(item)));
  };
  const rows = outOfStock().map(row);
  at("stock-stopped").replaceChildren(rows.length ? h("ul", { class: "stopped" }, ...rows) : h("p", { class: "quiet-words", text: say("stock.none") }));
  showDishes();
}

/** What can be stopped by a tap: dishes of the last days that fit what is typed. */
function showDishes() {
  const words = at("stock-words").value.trim().toLowerCase();
  const gone = new Set(outOfStock().map(({ item }) => item));
  const fit = dishes.filter((dish) => !gone.has(dish) && dish.toLowerCase().includes(words)).slice(0, MOST);
  at("stock-dishes").replaceChildren(...fit.map((dish) => h("li", {}, button("quiet", null, dish, () => stop(dish), { data: { dish } }))));
}

/** Which dishes there are: from what is known here at once, and from the orders of the last days. */
async function learnDishes() {
  takeDishes([...items.values(), ...closed.values()]);
  const list = await live.connection?.api.list("orders", { status: "all", limit: ORDERS }).catch(() => null);
  const isLate = ({ created_at: at }) => !(Date.parse(at) < Date.now() - DAYS_MS);
  if (list) takeDishes(list.orders.filter(isLate));
}

/** @param {{items?: {name: string, quantity: number|string}[]}[]} orders */
function takeDishes(orders) {
  const counts = new Map();
  orders.flatMap((order) => order.items ?? []).forEach(({ name, quantity }) => counts.set(name, (counts.get(name) ?? 0) + (Number(quantity) || 1)));
  dishes = [...counts].sort(([, one], [, other]) => other - one).map(([name]) => name);
  if (at("stock").open) showDishes();
}

/** @param {Event} event */
function addWords(event) {
  event.preventDefault();
  const item = at("stock-words").value.trim();
  if (item) stop(item);
}

/** @param {string} item */
const stop = (item) => change(() => live.connection.api.stopItem({ item, ...SPANS[span], by: settings.name || undefined }));

/** @param {string} item */
const putBack = (item) => change(() => live.connection.api.putItemBack(item, settings.name));

/** @param {() => Promise<{items: import("./stock.js").OutOfStock[]}>} ask */
async function change(ask) {
  try {
    const { items: list } = await ask();
    at("stock-words").value = "";
    at("stock-problem").textContent = "";
    setStock(list);
  } catch (error) {
    at("stock-problem").textContent = `${say("stock.failed")}: ${reasonOf(error)}`;
  }
}
