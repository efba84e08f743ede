/** The settings of this device, and the key of the store. A person chooses how long the device keeps the key. @module settings */

const SETTINGS = "vestnik.settings";
const SHIFT = "vestnik.shift";
const PANEL = "vestnik.panel";

/** The default minutes until an order is ready. The settings, or a person, may choose other minutes. */
export const USUAL_MINUTES = 20;

const DEFAULTS = {
  /** the code of a language, such as "en"; "": the language of the browser */
  language: "",
  /** "light" or "dark"; "": the theme of the device */
  theme: "",
  /** the name of the person at this panel; other panels show it beside the person's answers */
  name: "",
  /** @type {Record<string, number>} usual minutes until an order is ready, by type of order; {@link USUAL_MINUTES} for other types */
  minutes: {},
  /** when tickets are printed automatically: "" never, "arrival" or "accept" */
  autoPrint: "",
  /** when a person turned automatic printing on, by the server's clock, milliseconds; older orders are not printed automatically */
  printSince: 0,
  /** width of the paper, millimetres: 58 or 80 */
  paper: 80,
  /** @type {""|"usb"|"serial"} how this page reaches the printer; "": through the print function of the browser */
  printer: "",
  printerName: "",
  /** baud rate of a serial printer */
  baud: 115_200,
  copies: 1,
  offlineSound: true,
  /** whether the page counts the dishes that must be cooked now, above the board */
  allDay: false,
  /** @type {string[]} stations of the kitchen that this screen shows; empty: all */
  stations: [],
  /** size of the text: "large" or "small"; "": the usual size */
  density: "",
  /** volume of the sounds, in addition to the volume of the device; 0.25 to 1, never silent */
  volume: 1,
  pollSeconds: 30,
};

/** @typedef {"localStorage"|"sessionStorage"} Storage the name of a storage, not the object: if the browser forbids storage, even reading `window.localStorage` throws an error */

/** Reads a saved value; null if the storage has none. @param {Storage} storage @param {string} key */
export function read(storage, key) {
  try {
    return JSON.parse(window[storage].getItem(key) ?? "null");
  } catch {
    // The browser forbids storage, or the value has another format.
    return null;
  }
}

/** Saves a value, or deletes it if it is null. False if the browser saves nothing. @param {Storage} storage @param {string} key @param {any} value */
export function write(storage, key, value) {
  try {
    if (value === null) window[storage].removeItem(key);
    else window[storage].setItem(key, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

/** The current settings. Change them only with {@link change}. @type {typeof DEFAULTS} */
export const settings = { ...DEFAULTS, ...read("localStorage", SETTINGS) };

/** Changes some settings, and saves them. @param {Partial<typeof DEFAULTS>} changes */
export function change(changes) {
  Object.assign(settings, changes);
  write("localStorage", SETTINGS, settings);
  applyTheme();
}

/** Whether this browser allows the page to save data. */
export const keepsThings = () => write("localStorage", SETTINGS, settings);

export function applyTheme() {
  if (settings.theme) document.documentElement.dataset.theme = settings.theme;
  else delete document.documentElement.dataset.theme;
  document.documentElement.dataset.density = settings.density;
}

/**
 * The key that opens one store, or several stores (see {@link keysOf}).
 * @typedef {{store: string, token: string}} Key
 */

/** The most stores of one page. Each store needs a connection of its own, and the bar of stores must fit on the screen. */
export const MOST_STORES = 8;

/**
 * Splits a key of several stores, such as `7,8`, into a key for each store. The key has one token for all stores, or
 * one token for each store in the order of the stores.
 * @param {Key} key
 * @returns {Key[]}
 */
export function keysOf({ store, token }) {
  const [stores, tokens] = [store, token].map((list) => list.split(",").map((one) => one.trim()));
  return stores.map((store, at) => ({ store, token: tokens[at] ?? tokens[0] })).filter(({ store }) => store);
}

/** Takes the key from the fragment of a link, and removes the fragment from the address. @returns {Key|null} */
export function takeKeyFromAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const [store, token] = [given.get("store"), given.get("token")];
  if (token === null) return null;
  history.replaceState(null, "", location.pathname);
  return store ? { store, token } : null;
}

/** The key that is saved on this device or in this tab. @returns {Key & {remembered: boolean}|null} */
export function keptKey() {
  const here = read("sessionStorage", SHIFT);
  const always = read("localStorage", SHIFT);
  const key = here ?? always;
  return key?.token ? { ...key, remembered: Boolean(always) } : null;
}

/** Saves the key. @param {Key} key @param {boolean} remember true: keep the key on this device; false: in this tab only */
export function keepKey(key, remember) {
  write("sessionStorage", SHIFT, remember ? null : key);
  write("localStorage", SHIFT, remember ? key : null);
}

export function forgetKey() {
  write("sessionStorage", SHIFT, null);
  write("localStorage", SHIFT, null);
}

const STARTED = "vestnik.started";
const ENDED = "vestnik.ended";
/**
 * Whether a shift is running. A shift survives a reload of the page. If the device remembers the key, the shift also
 * survives a restart of the device.
 * @param {{remembered: boolean}} key
 */
export const isStarted = (key) => read("sessionStorage", STARTED) === true || (key.remembered && read("localStorage", ENDED) !== true);
/** Saves whether a shift is running. @param {boolean} started */
export function setStarted(started) {
  write("sessionStorage", STARTED, started || null);
  write("localStorage", ENDED, started ? null : true);
}

/** The name by which the server knows this tab while the tab has no session. A reload keeps the name. */
export function panelName() {
  const name = read("sessionStorage", PANEL) ?? `panel-${crypto.getRandomValues(new Uint32Array(1))[0].toString(36)}`;
  write("sessionStorage", PANEL, name);
  return name;
}
