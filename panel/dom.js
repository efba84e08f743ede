/** Makes elements. The panel never parses HTML, so a text from a customer cannot become markup. @module dom */

const SVG = "http://www.w3.org/2000/svg";

/** SVG paths in a square of 24 units, drawn with a line of 2 units. */
const ICONS = {
  bell: "M6 16V11a6 6 0 0 1 12 0v5l2 2H4zM10 21h4",
  scooter: "M9 17.5a2.5 2.5 0 1 1-5 0 2.5 2.5 0 0 1 5 0zM21 17.5a2.5 2.5 0 1 1-5 0 2.5 2.5 0 0 1 5 0zM9 17.5h5.5L17 7h-3M17 7l1.5 8M3 13.5c.5-2.5 2-3.5 4-3.5h4",
  bag: "M5 8h14l-1 13H6zM9 10V6a3 3 0 0 1 6 0v4",
  table: "M4 9h16M12 9v11M8 20h8M6 9l-2 8M18 9l2 8",
  check: "M4 12.5l5.5 5.5L20 6.5",
  cross: "M6 6l12 12M18 6L6 18",
  printer: "M7 8V3h10v5M7 17H4V9h16v8h-3M7 14h10v7H7z",
  clock: "M12 3a9 9 0 1 0 .1 0M12 7v5l3.5 2",
  hat: "M7 14.5a4 4 0 1 1 .5-7.9 5 5 0 0 1 9 0A4 4 0 1 1 17 14.5V20H7zM7 17h10",
  mute: "M4 9v6h4l5 4V5L8 9zM17 9l5 6M22 9l-5 6",
  sound: "M4 9v6h4l5 4V5L8 9zM17 8a6 6 0 0 1 0 8M19.5 5a10 10 0 0 1 0 14",
  screen: "M4 5h16v11H4zM9 20h6M12 16v4",
  person: "M12 4a4 4 0 1 0 .1 0M4 21c1-5 4-7 8-7s7 2 8 7",
  phone: "M7 3h10v18H7zM11 18h2",
  stop: "M8 3h8l5 5v8l-5 5H8l-5-5V8zM12 7.5v5.5M12 16.5h.01",
  pause: "M8 5v14M16 5v14",
  minus: "M6 12h12",
  plus: "M6 12h12M12 6v12",
  undo: "M9 6L4 11l5 5M4 11h10a6 6 0 0 1 0 12h-3",
  pen: "M4 20l1-4L16 5l3 3L8 19zM14 7l3 3",
  pin: "M12 21s7-6.5 7-12a7 7 0 0 0-14 0c0 5.5 7 12 7 12zM12 11.5a2.5 2.5 0 1 0-.1 0",
  speech: "M4 5h16v11h-9l-5 4v-4H4z",
  tag: "M4 4h8l9 9-8 8-9-9zM8 8h.01",
  leave: "M14 4h5v16h-5M4 12h10M10 8l4 4-4 4",
};

/**
 * Makes an element.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, any>} [props] `class`, `text`, `on` (listeners), `data`, and attributes; true sets an attribute, and false leaves it out
 * @param {...(Node|string|null|undefined|false)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") element.className = value;
    else if (name === "text") element.textContent = value;
    else if (name === "on") Object.entries(value).forEach(([event, listener]) => element.addEventListener(event, listener));
    else if (name === "data") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(.../** @type {(Node|string)[]} */ (children.filter((child) => child || child === "")));
  return element;
}

/** Makes an icon. Screen readers skip it. @param {keyof typeof ICONS} name */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/**
 * Makes a button.
 * @param {string} style a class
 * @param {keyof typeof ICONS|null} sign
 * @param {string} label
 * @param {(event: Event) => void} press
 * @param {Record<string, any>} [props]
 */
export function button(style, sign, label, press, props = {}) {
  return h("button", { type: "button", class: style || null, on: { click: press }, ...props }, sign && icon(sign), label && h("span", { text: label }));
}

/**
 * Sets a data attribute only when its value changes: setting the same value again makes the browser recompute the style
 * of every card.
 * @param {HTMLElement} part
 * @param {string} name
 * @param {string} value
 */
export const mark = (part, name, value) => part.dataset[name] !== value && (part.dataset[name] = value);

/** Sets a text only when it changes. @param {HTMLElement} part @param {string} text */
export const say = (part, text) => part.textContent !== text && (part.textContent = text);

/** The element with this id. Throws if the page has none. @param {string} id @returns {any} */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no #${id}`);
  return element;
}
