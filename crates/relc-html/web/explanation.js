/** The page of an explanation. */
import { element, make, number, read, ready } from "data";
import { choosable } from "graph";
import { bar, draw, point } from "maps";
import { sortable } from "tables";

/** @typedef {import("maps").Grid} Grid */
/** @typedef {{index: number, label: string | null, logit: number, probability: number}} Output */
/** @typedef {{value: string, node: string, op: string, in: number, out: number, bias: number, stabiliser: number, clipped: number, padding: number, flat_fallback: number, derivative: number, magnitude_out: number}} Line */
/** @typedef {{join: string, fork: string, skip: string, weighted_layers: number[], skip_share?: number}} Join */
/** @typedef {{target: Output, warnings?: string[], joins: Join[], ledger?: {nodes: Line[]}}} Explanation */
/** @typedef {{input: string, predictions: Output[], explanations: Explanation[], class_sensitivity?: {cosine: number, targets: Output[], hint?: string}}} Result */
/** @typedef {{shape: number[], pixels: boolean, sum: number, magnitude: number, map: Grid}} NodeData */
/** @typedef {{map: Grid | null, drawing: string | null, words: string[], nodes: (NodeData | null)[], edges: (number | null)[], stages: {node: number, title: string}[]}} Shown */
/** @typedef {{name: string, op: string, label: string, rule: number | null, values: string[], readout: number | null, join: number | null}} Facts */
/**
 * @type {{report: {results: Result[]}, rules: {rule: string, origin: string}[], colours: import("maps").Colours[],
 *   network: {nodes: Facts[], edges: number[][]},
 *   inputs: {picture: string | null, explanations: Shown[], no_network: string | null}[]}}
 */
const page = read();

const state = { input: 0, target: 0, sign: 0, node: -1 };
const WIDEST = 18;

const result = () => page.report.results[state.input];
const explanation = () => result().explanations[state.target];
const shown = () => page.inputs[state.input].explanations[state.target];
const colours = () => page.colours[state.sign];
const called = (/** @type {Output} */ output) => (output.label === null ? `output ${output.index}` : output.label);
const maybe = (/** @type {string} */ id) => document.getElementById(id);
const canvas = (/** @type {string} */ id) => /** @type {HTMLCanvasElement | null} */ (maybe(id));

/** @param {Grid} grid @param {string} label @param {Node[]} caption */
function tile(grid, label, caption) {
  const picture = /** @type {HTMLCanvasElement} */ (make("canvas", { role: "img", "aria-label": label }));
  draw(picture, grid, colours());
  return make("figure", {}, [make("span", { class: "frame" }, [picture]), make("figcaption", {}, caption)]);
}

function showPredictions() {
  const rows = result().predictions.map((output) =>
    make("tr", {}, [
      make("td", {}, String(output.index)),
      make("td", { class: "name" }, output.label ?? ""),
      make("td", { class: "number" }, number(output.logit)),
      make("td", { class: "number" }, number(output.probability)),
    ]),
  );
  element("predictions").querySelector("tbody")?.replaceChildren(...rows);
  const hint = result().class_sensitivity?.hint;
  const warnings = [...(explanation().warnings ?? []), ...(hint ? [hint] : [])];
  element("warnings").replaceChildren(...warnings.map((text) => make("p", { class: "warning" }, text)));
  element("words").replaceChildren(...shown().words.map((text) => make("p", {}, text)));
}

function showMap() {
  const { map, drawing } = shown();
  const figure = element("drawing");
  figure.hidden = drawing === null;
  if (drawing) figure.querySelector("img")?.setAttribute("src", drawing);
  const main = canvas("map");
  if (!main || !map) return;
  const high = draw(main, map, colours());
  element("low").textContent = colours().signed ? number(-high) : "0";
  element("high").textContent = number(high);
  const strip = canvas("bar");
  if (strip) bar(strip, colours());
  const { picture } = page.inputs[state.input];
  for (const id of ["picture", "under"]) {
    const image = maybe(id);
    if (image) image.closest("figure")?.toggleAttribute("hidden", picture === null);
    if (image && picture) image.setAttribute("src", picture);
  }
  const overlay = canvas("overlay");
  const opacity = /** @type {HTMLInputElement | null} */ (maybe("opacity"));
  if (overlay && opacity) draw(overlay, map, colours(), { over: Number(opacity.value) / 100, high });
}

function showTargets() {
  const { explanations, class_sensitivity: alike } = result();
  element("beside").hidden = explanations.length < 2;
  element("alike").textContent =
    explanations.length > 1 && alike
      ? `The maps of ${called(alike.targets[0])} and ${called(alike.targets[1])} have a cosine of ${number(alike.cosine)}.`
      : "";
  const tiles = explanations.map(({ target }, i) => {
    const choose = make("button", { type: "button", "aria-pressed": String(i === state.target) }, called(target));
    choose.addEventListener("click", () => {
      state.target = i;
      show();
      /** @type {HTMLElement | null} */ (element("targets").querySelectorAll("button")[i])?.focus();
    });
    const text = document.createTextNode(` logit ${number(target.logit)}, probability ${number(target.probability)}`);
    const { map } = page.inputs[state.input].explanations[i];
    return map ? tile(map, `Map of ${called(target)}`, [choose, text]) : make("p", {}, [choose, text]);
  });
  element("targets").replaceChildren(...tiles);
}

function showStages() {
  const { stages, nodes } = shown();
  element("on-the-way").hidden = stages.length === 0;
  const tiles = stages.flatMap(({ node, title }) => {
    const data = nodes[node];
    return data ? [tile(data.map, title, [document.createTextNode(title)])] : [];
  });
  element("stages").replaceChildren(...tiles);
}

function showNetwork() {
  const why = page.inputs[state.input].no_network;
  element("no-network").hidden = why === null;
  element("no-network").textContent = why;
  element("network").hidden = why !== null;
  const { edges } = shown();
  const most = Math.max(...edges.map((edge) => edge ?? 0), 0);
  for (const path of /** @type {NodeListOf<SVGElement>} */ (element("graph").querySelectorAll(".edge"))) {
    const carried = edges[Number(path.dataset.edge)] ?? 0;
    path.classList.toggle("none", carried === 0);
    path.style.strokeWidth = String(carried === 0 ? 1 : Math.max(1, (WIDEST * carried) / most));
    const [from, to] = page.network.edges[Number(path.dataset.edge)];
    const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
    title.textContent = `${page.network.nodes[to].name} to ${page.network.nodes[from].name}: ${number(carried)}`;
    path.replaceChildren(title);
  }
  showNode();
}

function showNode() {
  const facts = page.network.nodes[state.node];
  if (!facts) return;
  const data = shown().nodes[state.node];
  /** @type {[string, string][]} */
  const said = [["Op", facts.op], ["In the IR", facts.label]];
  const rule = facts.rule === null ? undefined : page.rules[facts.rule];
  if (rule) said.push(["Rule", rule.rule], ["Given by", rule.origin]);
  if (data) {
    said.push(["Output", data.shape.join(" × ")], ["Sum of R", number(data.sum)], ["Sum of |R|", number(data.magnitude)]);
  }
  const join = facts.join === null ? undefined : explanation().joins[facts.join];
  if (join) {
    const share = join.skip_share === undefined ? "" : `, with ${number(100 * join.skip_share)} % of what arrived`;
    said.push(["Join", `branches part at ${join.fork}; the skip is ${join.skip}${share}`]);
  }
  if (facts.readout !== null) said.push(["Read-out", `${number(100 * facts.readout)} % goes from here to the input`]);
  const list = make("dl", { class: "facts" }, said.flatMap(([what, is]) => [make("dt", {}, what), make("dd", {}, is)]));
  const parts = [make("h3", {}, facts.name || facts.label), list];
  if (data) parts.push(tile(data.map, `Map at ${facts.name}`, [document.createTextNode(`Relevance that arrives at its output, summed over its ${data.pixels ? "channels" : "first axis"}`)]));
  else parts.push(make("p", { class: "quiet" }, "No relevance arrives here."));
  const lines = (explanation().ledger?.nodes ?? []).filter((line) => facts.values.includes(line.value));
  for (const line of lines) {
    const lost = line.bias + line.stabiliser + line.clipped + line.padding;
    parts.push(make("p", { class: "number" }, `${line.value} ${line.op}: in ${number(line.in)}, out ${number(line.out)}, lost ${number(lost)}${line.flat_fallback ? `, spread evenly ${number(line.flat_fallback)}` : ""}`));
  }
  element("node").replaceChildren(...parts);
}

function showLedger() {
  const table = maybe("ledger");
  if (!table) return;
  const lines = (explanation().ledger?.nodes ?? []).map((line, order) => ({ line, order, lost: line.bias + line.stabiliser + line.clipped + line.padding }));
  lines.sort((a, b) => Math.abs(b.lost) - Math.abs(a.lost) || a.order - b.order);
  const rows = lines.map(({ line, order, lost }) => {
    const cells = [line.in, line.out, lost, line.bias, line.stabiliser, line.clipped, line.padding, line.derivative, line.flat_fallback, line.magnitude_out];
    const numbers = cells.map((value) => make("td", { class: "number", "data-value": String(value) }, number(value)));
    const leaks = Math.abs(lost) > 1e-4 * line.magnitude_out;
    const place = make("td", { class: "number", "data-value": String(order) }, String(order + 1));
    return make("tr", leaks ? { class: "leak" } : {}, [make("td", { class: "name" }, line.node), make("td", {}, line.op), ...numbers, place]);
  });
  table.querySelector("tbody")?.replaceChildren(...rows);
  table.querySelectorAll("th").forEach((head) => head.removeAttribute("aria-sort"));
}

function showColours() {
  showMap();
  showTargets();
  showStages();
  showNode();
}

function show() {
  const target = /** @type {HTMLSelectElement} */ (element("target"));
  target.replaceChildren(...result().explanations.map((e, i) => make("option", { value: String(i) }, called(e.target))));
  target.value = String(state.target);
  // Browsers keep what was chosen when a page is loaded again.
  /** @type {HTMLSelectElement} */ (element("input")).value = String(state.input);
  for (const radio of /** @type {NodeListOf<HTMLInputElement>} */ (document.querySelectorAll("input[name=sign]"))) {
    radio.checked = Number(radio.value) === state.sign;
  }
  element("l-input").hidden = page.inputs.length < 2;
  showPredictions();
  showColours();
  showNetwork();
  showLedger();
}

if (page.inputs.length > 0) {
  element("input").addEventListener("change", (event) => {
    state.input = Number(/** @type {HTMLSelectElement} */ (event.target).value);
    state.target = 0;
    show();
  });
  element("target").addEventListener("change", (event) => {
    state.target = Number(/** @type {HTMLSelectElement} */ (event.target).value);
    show();
  });
  for (const radio of document.querySelectorAll("input[name=sign]")) {
    radio.addEventListener("change", () => {
      state.sign = Number(/** @type {HTMLInputElement} */ (radio).value);
      showColours();
    });
  }
  maybe("opacity")?.addEventListener("input", showMap);
  const frame = maybe("map-frame");
  if (frame) point(frame, () => shown().map ?? { height: 0, width: 0, scale: 0, steps: "" }, element("value"));
  const choose = choosable(element("graph"), (node) => {
    state.node = node;
    showNode();
  });
  sortable();
  show();
  // The last join is where to look first: it says what the skip took.
  const joins = page.network.nodes.flatMap((node, i) => (node.join === null ? [] : [i]));
  if (joins.length > 0) choose(joins[joins.length - 1]);
}
ready();
