/** Shows how many orders and bookings wait for an answer: in the title, in the favicon, and on the icon of an installed app. @module badge */

import { t } from "./i18n.js";
import { byId } from "./dom.js";

const SIZE = 64;
/** The shortest time between two drawings of the badge. */
const DRAW_MS = 300;
/** From this number of waiting orders on, the badge shows "99+". */
const MOST = 100;
let wanted = { orders: 0, bookings: 0, live: false };
let shown = "";
let timer = 0;

/** Shows the number in the title at once, and in the favicon and the app's badge after a short delay. @param {number} orders orders that wait @param {number} bookings bookings that wait @param {boolean} live whether new orders reach this page */
export function showBadge(orders, bookings, live) {
  wanted = { orders, bookings, live };
  timer ||= setTimeout(drawWanted, DRAW_MS);
}

function drawWanted() {
  timer = 0;
  const { orders, bookings, live } = wanted;
  const waiting = orders + bookings;
  const words = orders ? t("title.orders", { n: orders }) : bookings ? t("title.bookings", { n: bookings }) : t("title.calm");
  const title = (waiting ? `(${waiting}) ` : live ? "" : "⚠ ") + words;
  if (document.title !== title) document.title = title;
  const count = Math.min(waiting, MOST);
  if (shown === `${count} ${live}`) return;
  shown = `${count} ${live}`;
  byId("favicon").href = draw(count, live);
  if (count) navigator.setAppBadge?.(count).catch(() => {});
  else navigator.clearAppBadge?.().catch(() => {});
}

/** Draws the favicon, and returns it as a data URL. @param {number} count @param {boolean} live */
function draw(count, live) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIZE;
  const pen = canvas.getContext("2d");
  pen.fillStyle = count ? "#d9480f" : live ? "#16794a" : "#6b7280";
  pen.beginPath();
  pen.roundRect(0, 0, SIZE, SIZE, 16);
  pen.fill();
  pen.fillStyle = pen.strokeStyle = "#fff";
  if (count) {
    pen.font = `bold ${count >= MOST ? 30 : 44}px sans-serif`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.fillText(count >= MOST ? "99+" : String(count), SIZE / 2, SIZE / 2 + 3);
  } else {
    pen.translate(8, 8);
    pen.scale(2, 2);
    pen.lineWidth = 2.4;
    pen.stroke(new Path2D("M6 16V11a6 6 0 0 1 12 0v5l2 2H4zM10 21h4"));
  }
  return canvas.toDataURL();
}
