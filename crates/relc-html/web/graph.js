/** Graphs whose nodes are chosen by a click, by Enter, or by arrow keys. */

/**
 * Brings a node into view within its graph, and leaves the page where it is.
 * @param {Element} graph
 * @param {Element} node
 */
function show(graph, node) {
  const [inner, outer] = [node.getBoundingClientRect(), graph.getBoundingClientRect()];
  if (inner.top < outer.top || inner.bottom > outer.bottom) graph.scrollTop += inner.top - outer.top - (outer.height - inner.height) / 2;
  if (inner.left < outer.left || inner.right > outer.right) graph.scrollLeft += inner.left - outer.left - (outer.width - inner.width) / 2;
}

/**
 * @param {Element} graph the element around the `svg`, whose nodes are `.node` with a `data-node`
 * @param {(node: number) => void} chosen
 * @returns {(node: number) => void} chooses a node
 */
export function choosable(graph, chosen) {
  const nodes = /** @type {SVGElement[]} */ ([...graph.querySelectorAll(".node")]);
  const choose = (/** @type {number} */ number) => {
    for (const node of nodes) {
      const is = Number(node.dataset.node) === number;
      node.setAttribute("aria-pressed", String(is));
      node.setAttribute("tabindex", is ? "0" : "-1");
    }
    chosen(number);
    const node = nodes.find((node) => node.dataset.node === String(number));
    if (node) show(graph, node);
  };
  nodes.forEach((node, place) => {
    node.addEventListener("click", () => choose(Number(node.dataset.node)));
    node.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
      const next = event.key === "Enter" || event.key === " " ? node : step ? nodes[place + step] : undefined;
      if (!next) return;
      event.preventDefault();
      choose(Number(next.dataset.node));
      next.focus();
    });
  });
  return choose;
}
