/** Maps of relevance as pictures. */
import { number } from "data";

/** @typedef {{height: number, width: number, scale: number, steps: string}} Grid */
/** @typedef {{name: string, signed: boolean, colours: string}} Colours  `colours` is bytes of red, green, blue, in base64. */

const STEPS = 32767;

/**
 * @param {string} text
 * @returns {Uint8Array}
 */
function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

/**
 * The values of a grid, row by row.
 * @param {Grid} grid
 * @returns {Float32Array}
 */
export function values(grid) {
  const view = new DataView(bytes(grid.steps).buffer);
  return Float32Array.from({ length: view.byteLength / 2 }, (_, i) => (view.getInt16(2 * i, true) * grid.scale) / STEPS);
}

/**
 * The value that the last colour stands for: the 99.5th percentile of the magnitudes, as `relc explain` draws maps, lest
 * single pixels darken the rest.
 * @param {Float32Array} map
 * @param {boolean} signed
 * @returns {number}
 */
export function limit(map, signed) {
  const sizes = map.map((v) => (signed ? Math.abs(v) : Math.max(v, 0))).sort();
  const rank = Math.round((sizes.length - 1) * 0.995);
  return sizes[rank] || sizes[sizes.length - 1] || 0;
}

/**
 * The colour of a value: where its bytes begin.
 * @param {number} value
 * @param {number} high
 * @param {boolean} signed
 * @param {number} count
 * @returns {number}
 */
function place(value, high, signed, count) {
  const part = high > 0 ? Math.max(-1, Math.min(1, value / high)) : 0;
  const last = count - 1;
  return 3 * Math.round(signed ? (last * (part + 1)) / 2 : last * Math.max(part, 0));
}

/**
 * Draws a map. Over a picture its opacity grows with the magnitude, so that a pixel without relevance shows the picture.
 * @param {HTMLCanvasElement} canvas
 * @param {Grid} grid
 * @param {Colours} colours
 * @param {{over?: number, high?: number}} [options]
 * @returns {number} the value of the last colour
 */
export function draw(canvas, grid, colours, options = {}) {
  const map = values(grid);
  const high = options.high ?? limit(map, colours.signed);
  const table = bytes(colours.colours);
  canvas.width = grid.width;
  canvas.height = grid.height;
  canvas.classList.toggle("row", grid.height === 1);
  const context = canvas.getContext("2d");
  if (!context) return high;
  const image = context.createImageData(grid.width, grid.height);
  map.forEach((value, i) => {
    const at = place(value, high, colours.signed, table.length / 3);
    const size = colours.signed ? Math.abs(value) : Math.max(value, 0);
    const opacity = options.over === undefined ? 1 : high > 0 ? options.over * Math.sqrt(Math.min(1, size / high)) : 0;
    image.data.set([table[at], table[at + 1], table[at + 2], Math.round(255 * opacity)], 4 * i);
  });
  context.putImageData(image, 0, 0);
  return high;
}

/**
 * Draws the colour bar.
 * @param {HTMLCanvasElement} canvas
 * @param {Colours} colours
 */
export function bar(canvas, colours) {
  const table = bytes(colours.colours);
  canvas.width = table.length / 3;
  canvas.height = 1;
  const context = canvas.getContext("2d");
  if (!context) return;
  const image = context.createImageData(canvas.width, 1);
  for (let i = 0; i < canvas.width; i++) image.data.set([table[3 * i], table[3 * i + 1], table[3 * i + 2], 255], 4 * i);
  context.putImageData(image, 0, 0);
}

/**
 * Says the value under the pointer, or under a cell that arrow keys move.
 * @param {HTMLElement} frame what the pointer moves over; it can have the focus
 * @param {() => Grid} grid
 * @param {HTMLElement} out
 */
export function point(frame, grid, out) {
  let [row, column] = [0, 0];
  const say = () => {
    const { width, height } = grid();
    row = Math.max(0, Math.min(height - 1, row));
    column = Math.max(0, Math.min(width - 1, column));
    out.textContent = `row ${row}, column ${column}: ${number(values(grid())[row * width + column])}`;
  };
  const move = (/** @type {PointerEvent} */ event) => {
    out.setAttribute("aria-live", "off");
    const box = frame.getBoundingClientRect();
    const { width, height } = grid();
    column = Math.floor(((event.clientX - box.left) / box.width) * width);
    row = Math.floor(((event.clientY - box.top) / box.height) * height);
    say();
  };
  frame.addEventListener("pointermove", move);
  frame.addEventListener("pointerdown", move);
  // A finger that was lifted leaves what it said.
  frame.addEventListener("pointerleave", (event) => {
    if (event.pointerType !== "touch") out.textContent = "";
  });
  frame.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!step) return;
    event.preventDefault();
    out.setAttribute("aria-live", "polite");
    row += step[0];
    column += step[1];
    say();
  });
}
