/** What a person chose, kept on this device; and what opens the store, kept as long as the person wants. @module settings */

const SETTINGS = "vestnik.settings";
const SHIFT = "vestnik.shift";
const PANEL = "vestnik.panel";

/** Minutes, where nobody has chosen others. */
export const USUAL_MINUTES = 20;

const DEFAULTS = {
  /** "" as the browser */
  language: "",
  /** "" as the device, "light" or "dark" */
  theme: "",
  /** who answers, as others are told */
  name: "",
  /** @type {Record<string, number>} usual preparation by type of order, minutes; {@link USUAL_MINUTES} for the others */
  minutes: {},
  /** "", "arrival" or "accept" */
  autoPrint: "",
  /** since when it is, by the server's clock, milliseconds: older orders are not printed unasked */
  printSince: 0,
  /** width of the roll, millimetres: 58 or 80 */
  paper: 80,
  /** @type {""|"usb"|"serial"} "": the browser's own printing */
  printer: "",
  printerName: "",
  /** of a serial printer */
  baud: 115_200,
  copies: 1,
  offlineSound: true,
  /** whether the dishes to be cooked now are counted above the board */
  allDay: false,
  /** @type {string[]} stations of the kitchen that this screen is for; none: all */
  stations: [],
  /** "", "large" or "small" */
  density: "",
  /** beside the device's own, 0.25 to 1: never silent */
  volume: 1,
  pollSeconds: 30,
};

/** @typedef {"localStorage"|"sessionStorage"} Storage by its name: where it is forbidden, to look at it is an error already */

/** @param {Storage} storage @param {string} key */
export function read(storage, key) {
  try {
    return JSON.parse(window[storage].getItem(key) ?? "null");
  } catch {
    // A browser that keeps nothing, or something that is not ours.
    return null;
  }
}

/** Whether it is kept; if not, it is forgotten with the page. @param {Storage} storage @param {string} key @param {any} value */
export function write(storage, key, value) {
  try {
    if (value === null) window[storage].removeItem(key);
    else window[storage].setItem(key, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

/** The settings; change them with {@link change}. @type {typeof DEFAULTS} */
export const settings = { ...DEFAULTS, ...read("localStorage", SETTINGS) };

/** @param {Partial<typeof DEFAULTS>} changes */
export function change(changes) {
  Object.assign(settings, changes);
  write("localStorage", SETTINGS, settings);
  applyTheme();
}

/** Whether this device keeps anything longer than the page is open. */
export const keepsThings = () => write("localStorage", SETTINGS, settings);

export function applyTheme() {
  if (settings.theme) document.documentElement.dataset.theme = settings.theme;
  else delete document.documentElement.dataset.theme;
  document.documentElement.dataset.density = settings.density;
}

/**
 * What opens the store.
 * @typedef {{store: string, token: string}} Key
 */

/** Stores of one page: each has a connection, and the whole of it must be read at a glance. */
export const MOST_STORES = 8;

/** The stores that a key opens, `7,8`: by one token, or by one each in the same order. @param {Key} key @returns {Key[]} */
export function keysOf({ store, token }) {
  const [stores, tokens] = [store, token].map((list) => list.split(",").map((one) => one.trim()));
  return stores.map((store, at) => ({ store, token: tokens[at] ?? tokens[0] })).filter(({ store }) => store);
}

/** Takes the key out of a link's fragment, and the fragment out of the address. @returns {Key|null} */
export function takeKeyFromAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const [store, token] = [given.get("store"), given.get("token")];
  if (token === null) return null;
  history.replaceState(null, "", location.pathname);
  return store ? { store, token } : null;
}

/** The key that is kept on this device, or in this tab. @returns {Key & {remembered: boolean}|null} */
export function keptKey() {
  const here = read("sessionStorage", SHIFT);
  const always = read("localStorage", SHIFT);
  const key = here ?? always;
  return key?.token ? { ...key, remembered: Boolean(always) } : null;
}

/** @param {Key} key @param {boolean} remember on this device, and not in this tab only */
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
 * Whether a shift goes on: this tab's after a reload, and a remembered one after the device has restarted, until somebody
 * ends it.
 * @param {{remembered: boolean}} key
 */
export const isStarted = (key) => read("sessionStorage", STARTED) === true || (key.remembered && read("localStorage", ENDED) !== true);
/** @param {boolean} started */
export function setStarted(started) {
  write("sessionStorage", STARTED, started || null);
  write("localStorage", ENDED, started ? null : true);
}

/** This tab's name, where it has no session: the same after a reload. */
export function panelName() {
  const name = read("sessionStorage", PANEL) ?? `panel-${crypto.getRandomValues(new Uint32Array(1))[0].toString(36)}`;
  write("sessionStorage", PANEL, name);
  return name;
}
