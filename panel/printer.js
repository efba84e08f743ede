/** Sends ESC/POS to the store's printer, over USB or a serial port. @module printer */

import { settings } from "./settings.js";

/** The longest time for one ticket. A printer that needs longer is probably off or has no paper. */
const PATIENCE_MS = 20_000;
/** The most bytes of one transfer. */
const CHUNK = 8192;
/** USB classes: printers, and vendor-specific devices. */
const CLASSES = [7, 255];

/** @typedef {"usb"|"serial"} Wire */

/** The reason why a ticket was not printed: the code `away`, `late` or `failed`. The files in lang/ have words for each code under `print.why`. */
export class PrinterError extends Error {
  /** @param {string} code */
  constructor(code) {
    super(code);
    this.code = code;
  }
}

/** The code that names an error under `print.why` in the files in lang/. @param {unknown} error */
export const codeOf = (error) => (error instanceof PrinterError ? error.code : "failed");

/** The kinds of connection to a printer that this browser supports. @returns {Wire[]} */
export const wires = () => /** @type {Wire[]} */ (["usb", "serial"]).filter((wire) => wire in navigator);

/**
 * Lets a person choose the printer. A browser allows this only while it handles a press, and it remembers the choice.
 * @param {Wire} wire
 * @returns {Promise<string|null>} the name of the printer; null if nobody chose one
 */
export async function choosePrinter(wire) {
  try {
    const chosen = wire === "usb" ? await navigator.usb.requestDevice({ filters: CLASSES.map((classCode) => ({ classCode })) }) : await navigator.serial.requestPort();
    // Remove the permission for all other printers, because `send` uses the first printer that the browser lists.
    for (const other of await known(wire)) if (other !== chosen) await other.forget?.();
    return chosen.productName ?? "";
  } catch (error) {
    if (error.name === "NotFoundError") return null;
    throw error;
  }
}

/** The printers that a person has allowed this page to use. @param {Wire} wire @returns {Promise<any[]>} */
const known = (wire) => (wire === "usb" ? navigator.usb.getDevices() : navigator.serial.getPorts());

/** Sends bytes to the first printer that the browser lists. Throws {@link PrinterError}. @param {Wire} wire @param {Uint8Array} bytes */
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
    // Close the connection, and drop the bytes that the printer has not taken.
    await end.now().catch(() => {});
  }
}

/** @param {any} device @param {Uint8Array} bytes @param {{now: () => Promise<void>}} end the function sets `end.now`, which closes the connection */
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

/** Copies two members by name, because `...alternate` copies no members of the browser's USB objects. @param {any} alternate */
const plain = ({ interfaceClass, alternateSetting }) => ({ interfaceClass, alternateSetting });

/** @param {any} port @param {Uint8Array} bytes @param {{now: () => Promise<void>}} end the function sets `end.now`, which closes the connection */
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
