/** The page of a compilation: the text that each pass left, and what is known of a node. */
import { element, make, read, ready } from "data";
import { choosable } from "graph";
import { sortable } from "tables";

/** @typedef {{at: number, removed: number, lines: string[]}} Hunk */
/** @typedef {{kind: string, text: string, line: number | null, line_before: number | null}} Remark */
/** @typedef {{half: "graph" | "program" | "kernels", name: string, hunks: Hunk[], remarks: Remark[]}} Pass */
/** @typedef {{name: string, line: number | null, rule: string | null, rule_from: string | null, relevance: number[], remarks: [number, number][], steps: number[]}} Node */
/**
 * A line of the listing: its sign, its text from where to where it differs from its counterpart, and its remarks.
 * @typedef {{sign: string, text: string, marked?: [number, number], remarks: Remark[]}} Row
 */

/** @type {{passes: Pass[], nodes: Node[]}} */
const data = read();
/** Lines that are shown before and behind a change. */
const CONTEXT = 3;
/** From which share of a line on that two lines have in common they are one line that was changed. */
const ALIKE = 0.3;

/** @type {string[][]} */
const texts = [];
const isFirst = (/** @type {number} */ pass) => data.passes[pass - 1]?.half !== data.passes[pass].half;
const before = (/** @type {number} */ pass) => (isFirst(pass) ? [] : texts[pass - 1]);
data.passes.forEach((pass, i) => {
  const old = before(i);
  const lines = [];
  let at = 0;
  for (const hunk of pass.hunks) {
    lines.push(...old.slice(at, hunk.at), ...hunk.lines);
    at = hunk.at + hunk.removed;
  }
  texts.push(lines.concat(old.slice(at)));
});

/**
 * What two lines don't have in common: where it begins and ends in each.
 * @param {string} a
 * @param {string} b
 * @returns {[[number, number], [number, number]] | undefined} nothing if that is most of them
 */
function difference(a, b) {
  const most = Math.min(a.length, b.length);
  let [start, end] = [0, 0];
  while (start < most && a[start] === b[start]) start++;
  while (end < most - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
  if (start + end < ALIKE * Math.max(a.length, b.length)) return undefined;
  return [[start, a.length - end], [start, b.length - end]];
}

/**
 * All lines of a pass, those that it deleted before those that it inserted.
 * @param {number} pass
 * @returns {Row[]}
 */
function rows(pass) {
  const { hunks, remarks } = data.passes[pass];
  const old = before(pass);
  /** @type {Map<number, Remark[]>} */
  const here = new Map();
  /** @type {Map<number, Remark[]>} */
  const gone = new Map();
  for (const remark of remarks) {
    const [map, line] = remark.line === null ? [gone, remark.line_before] : [here, remark.line];
    if (line !== null) map.set(line, [...(map.get(line) ?? []), remark]);
  }
  /** @type {Row[]} */
  const all = [];
  let [at, line] = [0, 0];
  const put = (/** @type {string} */ sign, /** @type {string} */ text, /** @type {Remark[] | undefined} */ said) => {
    /** @type {Row} */
    const row = { sign, text, remarks: said ?? [] };
    all.push(row);
    return row;
  };
  const same = (/** @type {number} */ end) => {
    for (; at < end; at++, line++) put(" ", old[at], here.get(line));
  };
  for (const hunk of hunks) {
    same(hunk.at);
    const paired = hunk.removed === hunk.lines.length;
    if (paired) {
      hunk.lines.forEach((text) => {
        const [a, b] = difference(old[at], text) ?? [];
        put("-", old[at], gone.get(at++)).marked = a;
        put("+", text, here.get(line++)).marked = b;
      });
    } else {
      for (let i = 0; i < hunk.removed; i++) put("-", old[at], gone.get(at++));
      for (const text of hunk.lines) put(isFirst(pass) ? " " : "+", text, here.get(line++));
    }
  }
  same(old.length);
  return all;
}

const CLASSES = /** @type {Record<string, string>} */ ({ "+": "insert", "-": "delete" });

/**
 * @param {Row} row
 * @returns {HTMLElement[]}
 */
function spans({ sign, text, marked, remarks }) {
  const [start, end] = marked ?? [0, 0];
  const parts = end > start ? [text.slice(0, start), make("b", {}, text.slice(start, end)), text.slice(end)] : [text];
  const line = make("span", sign === " " ? {} : { class: CLASSES[sign] });
  line.append(`${sign} `, ...parts, "\n");
  return [line, ...remarks.map((remark) => make("span", { class: "remark" }, `    ${remark.kind}: ${remark.text}\n`))];
}

const select = /** @type {HTMLSelectElement} */ (element("pass"));
const whole = /** @type {HTMLInputElement} */ (element("whole"));
const buttons = /** @type {HTMLButtonElement[]} */ ([...document.querySelectorAll("button[data-pass]")]);
const count = (/** @type {number} */ n, /** @type {string} */ what) => `${n} ${what}${n === 1 ? "" : "s"}`;

function show() {
  const number = Number(select.value);
  const pass = data.passes[number];
  const all = rows(number);
  const first = isFirst(number);
  const shown = new Set();
  all.forEach((row, i) => {
    if (row.sign !== " ") for (let near = i - CONTEXT; near <= i + CONTEXT; near++) shown.add(near);
    if (row.remarks.length > 0) shown.add(i);
  });
  /** @type {HTMLElement[]} */
  const lines = [];
  let hidden = 0;
  const gap = () => {
    if (hidden > 0) lines.push(make("span", { class: "gap" }, `… ${count(hidden, "line")}\n`));
    hidden = 0;
  };
  all.forEach((row, i) => {
    if (!first && !whole.checked && !shown.has(i)) return hidden++;
    gap();
    lines.push(...spans(row));
  });
  gap();
  element("listing").replaceChildren(...lines);
  element("listing").scrollTo(0, 0);
  whole.disabled = first;
  const inserted = all.filter((row) => row.sign === "+").length;
  const deleted = all.filter((row) => row.sign === "-").length;
  const changes = first ? `starts with ${count(all.length, "line")}` : inserted + deleted === 0 ? "changes nothing" : `inserts ${count(inserted, "line")}, deletes ${deleted}`;
  element("said").textContent = `${pass.name} ${changes}, and makes ${count(pass.remarks.length, "remark")}.`;
  const apart = pass.remarks.filter((remark) => remark.line === null && remark.line_before === null);
  element("apart").replaceChildren(...apart.map((remark) => make("li", {}, `${remark.kind}: ${remark.text}`)));
  for (const button of buttons) button.setAttribute("aria-pressed", String(Number(button.dataset.pass) === number));
  /** @type {HTMLButtonElement} */ (element("previous")).disabled = number === 0;
  /** @type {HTMLButtonElement} */ (element("next")).disabled = number === data.passes.length - 1;
}

const HALVES = { graph: "Graph", program: "Program", kernels: "Kernels" };
data.passes.forEach((pass, i) => {
  if (isFirst(i)) select.append(make("optgroup", { label: HALVES[pass.half] }));
  select.lastElementChild?.append(make("option", { value: String(i) }, pass.name));
});
const go = (/** @type {number} */ pass) => {
  select.value = String(pass);
  show();
};
// The first that changes something.
go(Math.max(0, data.passes.findIndex((pass, i) => !isFirst(i) && pass.hunks.length > 0)));
select.addEventListener("change", show);
whole.addEventListener("change", show);
element("previous").addEventListener("click", () => go(Number(select.value) - 1));
element("next").addEventListener("click", () => go(Number(select.value) + 1));
for (const button of buttons) {
  button.addEventListener("click", () => {
    go(Number(button.dataset.pass));
    element("listing-head").scrollIntoView();
  });
}

/** @param {Pass["half"]} half */
const lastText = (half) => texts[data.passes.map((pass) => pass.half).lastIndexOf(half)] ?? [];

choosable(element("graph"), (number) => {
  const node = data.nodes[number];
  const [graph, program] = [lastText("graph"), lastText("program")];
  /** @type {HTMLElement[]} */
  const shown = [make("h3", {}, node.name)];
  const facts = [
    ["rule", node.rule],
    ["from", node.rule_from],
  ].filter(([, value]) => value);
  if (facts.length > 0) shown.push(make("dl", { class: "facts" }, facts.flatMap(([name, value]) => [make("dt", {}, name ?? ""), make("dd", {}, value ?? "")])));
  const listing = (/** @type {string} */ title, /** @type {string[]} */ lines) => {
    if (lines.length === 0) return;
    const pre = make("pre", { class: "listing", tabindex: "0", role: "region", "aria-label": title });
    pre.append(...lines.map((line) => make("span", {}, `${line.trim()}\n`)));
    shown.push(make("h4", {}, title), pre);
  };
  const at = (/** @type {string[]} */ text, /** @type {number[]} */ lines) => lines.map((line) => text[line] ?? "");
  listing("Its line", at(graph, node.line === null ? [] : [node.line]));
  listing("Its relevance", at(graph, node.relevance));
  listing("Its steps", at(program, node.steps));
  if (node.remarks.length > 0) {
    const items = node.remarks.map(([pass, remark]) => {
      const { kind, text } = data.passes[pass].remarks[remark];
      return make("li", {}, `${data.passes[pass].name}: ${kind}: ${text}`);
    });
    shown.push(make("h4", {}, "Remarks"), make("ul", {}, items));
  }
  element("about-node").replaceChildren(...shown);
});
sortable();
ready();
