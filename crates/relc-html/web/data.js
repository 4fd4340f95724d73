/** What the page is made of: the JSON that was written into it. */

/**
 * @template T
 * @returns {T}
 */
export function read() {
  const text = element("data").textContent;
  return JSON.parse(text ?? "null");
}

/**
 * The element of an id, which the page's template has.
 * @param {string} id
 * @returns {HTMLElement}
 */
export function element(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

/** Says that the page is drawn and its controls work: for who waits for it. */
export function ready() {
  element("main").dataset.ready = "";
}

/**
 * An element with attributes and text. Text stays text, whatever it holds.
 * @param {string} tag
 * @param {Record<string, string>} attributes
 * @param {string | Node[]} [content]
 * @returns {HTMLElement}
 */
export function make(tag, attributes, content) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (typeof content === "string") made.textContent = content;
  else if (content) made.append(...content);
  return made;
}

/**
 * A number as people read it, of four digits: as the page's texts have them.
 * @param {number | null | undefined} value
 * @returns {string}
 */
export function number(value) {
  if (value === null || value === undefined) return "not finite";
  if (value === 0) return "0";
  const scientific = value.toExponential(3);
  const exponent = Number(scientific.split("e")[1]);
  return exponent < -4 || exponent >= 6 ? scientific.replace("e+", "e") : value.toFixed(Math.max(0, 3 - exponent));
}
