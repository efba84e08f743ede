/** The store's printer: the browser's own printing, or one at a wire that is sent ESC/POS. @module printer */

import { settings } from "./settings.js";

/** A printer that has not taken a ticket by then is out of paper, or off. */
const PATIENCE_MS = 20_000;
/** Bytes that are sent at once. */
const CHUNK = 8192;
/** Of USB: printers, and those that say only whose they are. */
const CLASSES = [7, 255];

/** @typedef {"usb"|"serial"} Wire */

/** Why it was not printed: `away`, `late` or `failed`, whose words are below `print.why`. */
export class PrinterError extends Error {
  /** @param {string} code */
  constructor(code) {
    super(code);
    this.code = code;
  }
}

/** The word below `print.why` for whatever went wrong. @param {unknown} error */
export const codeOf = (error) => (error instanceof PrinterError ? error.code : "failed");

/** The wires that this browser has. @returns {Wire[]} */
export const wires = () => /** @type {Wire[]} */ (["usb", "serial"]).filter((wire) => wire in navigator);

/** Lets a person choose the printer, within a press; the browser remembers it. @param {Wire} wire @returns {Promise<string|null>} its name; null where nobody chose one */
export async function choosePrinter(wire) {
  try {
    const chosen = wire === "usb" ? await navigator.usb.requestDevice({ filters: CLASSES.map((classCode) => ({ classCode })) }) : await navigator.serial.requestPort();
    // One is enough: which of two would print is left to chance.
    for (const other of await known(wire)) if (other !== chosen) await other.forget?.();
    return chosen.productName ?? "";
  } catch (error) {
    if (error.name === "NotFoundError") return null;
    throw error;
  }
}

/** What a person chose before. @param {Wire} wire @returns {Promise<any[]>} */
const known = (wire) => (wire === "usb" ? navigator.usb.getDevices() : navigator.serial.getPorts());

/** @param {Wire} wire @param {Uint8Array} bytes */
export async function send(wire, bytes) {
  const [printer] = wire in navigator ? await known(wire) : [];
  if (!printer) throw new PrinterError("away");
  let timer = 0;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new PrinterError("late")), PATIENCE_MS)));
  const end = { now: async () => {} };
  try {
    await Promise.race([late, wire === "usb" ? overUsb(printer, bytes, end) : overSerial(printer, bytes, end)]);
  } catch (error) {
    if (error instanceof PrinterError) throw error;
    throw new PrinterError(error.name === "NotFoundError" || error.name === "NetworkError" ? "away" : "failed");
  } finally {
    clearTimeout(timer);
    // What a printer has not taken by now is given up.
    await end.now().catch(() => {});
  }
}

/** @param {any} device @param {Uint8Array} bytes @param {{now: () => Promise<void>}} end */
async function overUsb(device, bytes, end) {
  await device.open();
  end.now = () => device.close();
  if (!device.configuration) await device.selectConfiguration(1);
  const ways = device.configuration.interfaces.flatMap(({ interfaceNumber, alternates }) =>
    alternates.map((one) => ({ interfaceNumber, ...plain(one), out: one.endpoints.find(({ direction, type }) => direction === "out" && type === "bulk") })),
  );
  const way = CLASSES.map((code) => ways.find((one) => one.out && one.interfaceClass === code)).find(Boolean);
  if (!way) throw new PrinterError("failed");
  await device.claimInterface(way.interfaceNumber);
  if (way.alternateSetting) await device.selectAlternateInterface(way.interfaceNumber, way.alternateSetting);
  for (let at = 0; at < bytes.length; at += CHUNK) {
    const { status } = await device.transferOut(way.out.endpointNumber, bytes.slice(at, at + CHUNK));
    if (status !== "ok") throw new PrinterError("failed");
  }
}

/** The browser's own objects have no members of their own. @param {any} alternate */
const plain = ({ interfaceClass, alternateSetting }) => ({ interfaceClass, alternateSetting });

/** @param {any} port @param {Uint8Array} bytes @param {{now: () => Promise<void>}} end */
async function overSerial(port, bytes, end) {
  await port.open({ baudRate: settings.baud, bufferSize: CHUNK });
  const writer = port.writable.getWriter();
  let isWhole = false;
  end.now = async () => {
    if (!isWhole) await writer.abort().catch(() => {});
    writer.releaseLock();
    await port.close();
  };
  for (let at = 0; at < bytes.length; at += CHUNK) await writer.write(bytes.slice(at, at + CHUNK));
  await writer.close();
  isWhole = true;
}
