/** Finds an order by what people remember: its number, the customer's name, the end of the telephone number. @module find */

import { at, h, icon } from "./dom.js";
import { numberOf, typeOf } from "./facts.js";
import { say } from "./i18n.js";
import { openOrder } from "./order.js";
import { closed, items } from "./orders.js";

/** Orders that are listed. */
const MOST = 12;

setUp();

export function showFind() {
  at("find-words").value = "";
  show();
  at("find").showModal();
  at("find-words").focus();
}

function setUp() {
  const dialog = at("find");
  at("find-words").addEventListener("input", show);
  at("find-form").addEventListener("submit", (event) => {
    event.preventDefault();
    dialog.querySelector(".found")?.click();
  });
  at("find-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
}

/** @param {import("./orders.js").Item} item @param {string} words in lower case */
export function fits({ number, customer_name: name, phone }, words) {
  const digits = words.replace(/\D/g, "");
  const isInPhone = digits.length >= 3 && (phone ?? "").replace(/\D/g, "").includes(digits);
  return String(number).toLowerCase().includes(words.replace(/^[#№]/, "")) || (name ?? "").toLowerCase().includes(words) || isInPhone;
}

function show() {
  const words = at("find-words").value.trim().toLowerCase();
  const all = [...items.values(), ...[...closed.values()].reverse()];
  const found = words ? all.filter((item) => fits(item, words)).slice(0, MOST) : [];
  const row = (item) => {
    const open = () => {
      at("find").close();
      openOrder(item.key);
    };
    const status = h("span", { class: "status", data: { status: item.status }, text: say(`status.${item.kind}.${item.status}`) });
    const who = [typeOf(item), item.customer_name, item.phone].filter(Boolean).join(" · ");
    return h("li", {}, h("button", { type: "button", class: "found", on: { click: open } }, h("b", { text: numberOf(item) }), h("span", { text: who }), status));
  };
  const none = words && !found.length ? [h("li", { class: "quiet-words", text: say("find.none") })] : [];
  at("find-list").replaceChildren(...found.map(row), ...none);
}
