/** Draws a ticket as a black and white picture, as wide as the paper and as long as its text. @module raster */

/**
 * The style of each kind of block; sizes in dots.
 * @type {Record<string, {px: number, weight?: number, indent?: number, align?: "right"|"center", isBoxed?: boolean, isInverse?: boolean}>}
 */
const STYLES = {
  store: { px: 24 },
  copy: { px: 44, weight: 800, align: "center", isInverse: true },
  title: { px: 68, weight: 800 },
  type: { px: 38, weight: 700 },
  comment: { px: 38, weight: 700, isBoxed: true },
  fact: { px: 28, weight: 500 },
  line: { px: 40, weight: 700 },
  options: { px: 30, weight: 500, indent: 40 },
  note: { px: 34, weight: 800, indent: 40 },
  total: { px: 38, weight: 700, align: "right" },
};
const LINE_HEIGHT = 1.22;
const GAP = 6;
const RULE = { height: 24, dash: [12, 8], width: 3 };
const BOX = { edge: 4, inside: 12 };
/** The most rows of a picture, for two metres of paper. Blocks that do not fit into these rows are not printed. */
const MOST_ROWS = 16_000;
/** A dot is black if it is darker than this, 0 to 255. */
const BLACK_BELOW = 160;
const FAMILY = 'Onest, "Noto Sans", Arial, sans-serif';

/** @typedef {import("./ticket.js").Block} Block */

/**
 * Draws the blocks of a ticket, one below the other.
 * @param {Block[]} blocks
 * @param {number} width in dots
 * @returns {Promise<import("./escpos.js").Picture>}
 */
export async function raster(blocks, width) {
  await document.fonts.ready;
  const measure = new OffscreenCanvas(1, 1).getContext("2d");
  let height = 0;
  const placed = [];
  for (const block of blocks) {
    const made = place(measure, block, width);
    if (height + made.height > MOST_ROWS) break;
    placed.push({ ...made, top: height });
    height += made.height;
  }
  const canvas = new OffscreenCanvas(width, Math.max(1, height)).getContext("2d", { willReadFrequently: true });
  canvas.fillStyle = "#fff";
  canvas.fillRect(0, 0, width, height);
  placed.forEach((block) => draw(canvas, block, width));
  return { width, height, rows: packed(canvas.getImageData(0, 0, width, Math.max(1, height))) };
}

/**
 * Wraps the text of a block, and computes the height of the block.
 * @param {OffscreenCanvasRenderingContext2D} canvas
 * @param {Block} block
 * @param {number} width
 */
function place(canvas, block, width) {
  if (block.style === "rule") return { block, lines: [], height: RULE.height };
  const { px, indent = 0 } = STYLES[block.style];
  canvas.font = fontOf(block.style);
  const edge = edgeOf(block.style);
  const text = block.label ? `${block.label}: ${block.text}` : block.text;
  const lines = text.split("\n").flatMap((line) => wrapped(canvas, line, width - indent - 2 * edge));
  return { block, lines, height: Math.ceil(lines.length * px * LINE_HEIGHT) + 2 * edge + GAP };
}

/** The space between the edge of a block and its text, in dots. @param {string} style */
const edgeOf = (style) => (STYLES[style].isBoxed || STYLES[style].isInverse ? BOX.edge + BOX.inside : 0);

/** @param {string} style */
const fontOf = (style) => `${STYLES[style].weight ?? 500} ${STYLES[style].px}px ${FAMILY}`;

/**
 * Wraps a text into lines that fit. A word that is longer than a line is broken.
 * @param {OffscreenCanvasRenderingContext2D} canvas
 * @param {string} text
 * @param {number} width
 */
function wrapped(canvas, text, width) {
  const fits = (line) => canvas.measureText(line).width <= width;
  const lines = [""];
  for (const word of text.split(/\s+/u).filter(Boolean)) {
    const together = `${lines.at(-1)} ${word}`.trim();
    if (fits(together)) lines[lines.length - 1] = together;
    else if (fits(word)) lines.push(word);
    else broken(fits, lines, ` ${word}`);
  }
  return lines.map((line) => line.trim()).filter((line, number) => line || number === 0);
}

/**
 * Breaks a word that is longer than a line. The word continues the last line, and fills new lines letter by letter.
 * @param {(line: string) => boolean} fits whether a text is short enough for one line
 * @param {string[]} lines the lines so far, at least one; the function changes the last and appends others
 * @param {string} word
 */
function broken(fits, lines, word) {
  for (const letter of word) {
    if (fits(lines.at(-1) + letter)) lines[lines.length - 1] += letter;
    else lines.push(letter);
  }
}

/**
 * @param {OffscreenCanvasRenderingContext2D} canvas
 * @param {{block: Block, lines: string[], height: number, top: number}} placed
 * @param {number} width
 */
function draw(canvas, { block, lines, height, top }, width) {
  canvas.fillStyle = canvas.strokeStyle = "#000";
  if (block.style === "rule") {
    canvas.setLineDash(RULE.dash);
    canvas.lineWidth = RULE.width;
    canvas.beginPath();
    canvas.moveTo(0, top + height / 2);
    canvas.lineTo(width, top + height / 2);
    return canvas.stroke();
  }
  const { px, indent = 0, align, isBoxed, isInverse } = STYLES[block.style];
  const edge = edgeOf(block.style);
  if (isInverse) canvas.fillRect(0, top, width, height - GAP);
  if (isBoxed) {
    canvas.setLineDash([]);
    canvas.lineWidth = BOX.edge;
    canvas.strokeRect(BOX.edge / 2, top + BOX.edge / 2, width - BOX.edge, height - GAP - BOX.edge);
  }
  if (isInverse) canvas.fillStyle = "#fff";
  canvas.font = fontOf(block.style);
  canvas.textAlign = align ?? "left";
  const x = align === "right" ? width - edge : align === "center" ? width / 2 : indent + edge;
  lines.forEach((line, number) => canvas.fillText(line, x, Math.round(top + edge + px + number * px * LINE_HEIGHT)));
}

/** Packs a picture into one bit per dot. @param {ImageData} image */
function packed({ width, height, data }) {
  const rows = new Uint8Array((width / 8) * height);
  for (let dot = 0; dot < width * height; dot += 1) {
    if (data[dot * 4] < BLACK_BELOW) rows[dot >> 3] |= 0x80 >> (dot & 7);
  }
  return rows;
}
