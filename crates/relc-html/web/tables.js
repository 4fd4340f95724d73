/** Tables that are sorted by a click on a column's head. */

/**
 * Makes each `th` that holds a button sort its table. A cell sorts by its `data-value`, or by its text.
 * @param {ParentNode} [within]
 */
export function sortable(within = document) {
  for (const table of within.querySelectorAll("table.sortable")) {
    const heads = [...table.querySelectorAll("thead th")];
    heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => sort(table, heads, column)));
  }
}

/**
 * @param {Element} table
 * @param {Element[]} heads
 * @param {number} column
 */
function sort(table, heads, column) {
  // Numbers start with the largest, names with the first.
  const first = heads[column].classList.contains("number") ? "descending" : "ascending";
  const other = first === "ascending" ? "descending" : "ascending";
  const order = heads[column].getAttribute("aria-sort") === first ? other : first;
  heads.forEach((head, i) => (i === column ? head.setAttribute("aria-sort", order) : head.removeAttribute("aria-sort")));
  const body = table.querySelector("tbody");
  if (!body) return;
  const sign = order === "ascending" ? 1 : -1;
  const rows = [...body.querySelectorAll("tr")].map((row) => ({ row, key: key(row.children[column]) }));
  rows.sort((a, b) => sign * compare(a.key, b.key));
  body.append(...rows.map(({ row }) => row));
}

/**
 * @param {Element | undefined} cell
 * @returns {string | number}
 */
function key(cell) {
  const value = cell?.getAttribute("data-value");
  return value === null || value === undefined ? (cell?.textContent ?? "") : value === "" ? -Infinity : Number(value);
}

/**
 * @param {string | number} a
 * @param {string | number} b
 */
function compare(a, b) {
  return typeof a === "number" && typeof b === "number" ? a - b || 0 : String(a).localeCompare(String(b), undefined, { numeric: true });
}
