/** The page of an evaluation. */
import { element, make, number, read, ready } from "data";
import { bar, draw } from "maps";
import { sortable } from "tables";

/** @typedef {import("maps").Grid} Grid */
/** @typedef {{picture: string, value: number, shown: number | null}} Example */
/** @typedef {{name: string, picture: string | null, maps: (Grid | null)[]}} Shown */
/**
 * @typedef {object} Data
 * @property {{name: string, better: "higher" | "lower" | "neither"}[]} columns
 * @property {string[]} methods
 * @property {{best: Example[], worst: Example[]}[][]} extremes  by method and column
 * @property {Shown[]} shown
 * @property {import("maps").Colours} colours
 */

/** How opaque the largest relevance is over a picture. */
const OVER = 0.85;

const data = /** @type {Data} */ (read());
sortable();
if (document.getElementById("picker")) curves();
if (document.getElementById("method")) extremes();
if (document.getElementById("bar")) sample();
ready();

/** Shows and hides methods in both charts. */
function curves() {
  const boxes = /** @type {HTMLInputElement[]} */ ([...element("picker").querySelectorAll("input")]);
  const lines = [...document.querySelectorAll(".charts path[data-series]")];
  const show = () => {
    const on = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    for (const line of lines) line.toggleAttribute("hidden", !on.has(line.getAttribute("data-series") ?? ""));
  };
  /** @param {string} [series] the method whose lines stand out */
  const stress = (series) => {
    for (const line of lines) {
      line.classList.toggle("faint", series !== undefined && line.getAttribute("data-series") !== series);
    }
  };
  for (const box of boxes) {
    box.addEventListener("change", show);
    const label = box.parentElement ?? box;
    for (const on of ["pointerenter", "focusin"]) label.addEventListener(on, () => box.checked && stress(box.value));
    for (const off of ["pointerleave", "focusout"]) label.addEventListener(off, () => stress());
  }
  const all = (/** @type {boolean} */ checked) => {
    for (const box of boxes) box.checked = checked;
    show();
  };
  element("all").addEventListener("click", () => all(true));
  element("none").addEventListener("click", () => all(false));
  show(); // browsers keep what was checked when a page is loaded again
}

/** The pictures at both ends of a column. */
function extremes() {
  const [method, column, view] = ["method", "column", "view"].map((id) => /** @type {HTMLSelectElement} */ (element(id)));
  if (!data.shown.some((shown) => shown.picture)) {
    view.value = "map";
    view.parentElement?.setAttribute("hidden", "");
  }
  const show = () => {
    const of = data.columns[Number(column.value)];
    const { best, worst } = data.extremes[Number(method.value)][Number(column.value)];
    const names = of.better === "neither" ? ["Highest", "Lowest"] : ["Best", "Worst"];
    const [count, name] = [best.length + worst.length, data.methods[Number(method.value)]];
    element("says").textContent = count === 0 ? `No picture has a value of ${of.name} by ${name}.` : `By ${of.name}, the ends of what ${name} got on single pictures.`;
    const tile = (/** @type {Example} */ example) => figure(example, Number(method.value), view.value);
    [best, worst].forEach((examples, end) => {
      const id = ["best", "worst"][end];
      element(id).replaceChildren(...examples.map(tile));
      element(`${id}-head`).textContent = names[end];
      element(`${id}-head`).hidden = examples.length === 0;
    });
  };
  for (const select of [method, column, view]) select.addEventListener("change", show);
  show();
}

/**
 * A picture with its value, and its map where the page holds it.
 * @param {Example} example
 * @param {number} method
 * @param {string} view
 * @returns {HTMLElement}
 */
function figure(example, method, view) {
  const caption = make("figcaption", {}, [make("strong", { class: "number" }, number(example.value)), document.createTextNode(` ${example.picture}`)]);
  const shown = example.shown === null ? undefined : data.shown[example.shown];
  const map = shown?.maps[method];
  const picture = view === "map" ? null : shown?.picture;
  const frame = make("span", { class: "frame" });
  if (picture) frame.append(make("img", { src: picture, alt: example.picture, class: view === "over" && map ? "grey" : "" }));
  if (map && view !== "picture") {
    const label = `Map of ${example.picture} by ${data.methods[method]}`;
    const canvas = make("canvas", { role: "img", "aria-label": label, class: picture ? "over" : "" });
    draw(/** @type {HTMLCanvasElement} */ (canvas), map, data.colours, picture ? { over: OVER } : {});
    frame.append(canvas);
  }
  const missing = map ? [] : [make("p", { class: "quiet" }, "This page holds no map of it.")];
  return make("figure", {}, [...(frame.childNodes.length ? [frame] : []), ...missing, caption]);
}

/** The table of maps. */
function sample() {
  bar(/** @type {HTMLCanvasElement} */ (element("bar")), data.colours);
  for (const image of document.querySelectorAll("table.maps img")) {
    if (image instanceof HTMLImageElement) image.src = data.shown[Number(image.dataset.shown)].picture ?? "";
  }
  for (const canvas of document.querySelectorAll("table.maps canvas")) {
    if (!(canvas instanceof HTMLCanvasElement)) continue;
    const map = data.shown[Number(canvas.dataset.shown)].maps[Number(canvas.dataset.method)];
    if (map) draw(canvas, map, data.colours);
  }
}
