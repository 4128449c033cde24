const startGallery = (root) => {
  "use strict";
  const tools = root.querySelector(".tools");
  const gallery = root.querySelector("[data-gallery]");
  const empty = root.querySelector("[data-empty]");
  const field = (name) => tools.elements.namedItem(name);
  const entries = Array.from(gallery.children, (node) => ({
    node,
    ...node.dataset,
    // Without the words of controls, and with the id, which is not shown.
    text: `${node.dataset.id} ${node.textContent}`.toLowerCase().replace(/\s+/g, " "),
  }));

  const fits = (entry, words) =>
    words.every((word) => entry.text.includes(word)) &&
    ["kind", "stop", "category"].every((name) => {
      const wanted = field(name)?.value;
      return !wanted || (entry[name] ?? "").split(" ").includes(wanted);
    });

  const filter = () => {
    const words = field("text").value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const entry of entries) {
      const fit = fits(entry, words);
      shown += fit;
      if (entry.node.hidden === fit) entry.node.hidden = !fit;
    }
    empty.hidden = shown > 0;
    tools.querySelector("output").textContent =
      shown === entries.length ? `${shown} shown` : `${shown} of ${entries.length}`;
  };

  // "gain" is largest first, "-gain" smallest first, "order" as written; what has none comes last.
  const sort = () => {
    const name = field("sort").value.replace("-", "");
    const sign = field("sort").value === name && name !== "order" ? -1 : 1;
    const value = (entry) => (entry[name] === undefined ? Infinity : sign * Number(entry[name]));
    entries.sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      return x === y ? a.order - b.order : x - y;
    });
    gallery.append(...entries.map((entry) => entry.node));
  };

  const columns = (all) => {
    const top = all[0].getBoundingClientRect().top;
    const next = all.findIndex((link) => link.getBoundingClientRect().top > top + 1);
    return next < 0 ? all.length : next;
  };
  const walk = (event) => {
    const here = event.target.closest("[data-gallery] > * a");
    if (!here || event.altKey || event.ctrlKey || event.metaKey) return;
    const all = entries.filter(({ node }) => !node.hidden).flatMap(({ node }) => [...node.querySelectorAll("a")]);
    const at = all.indexOf(here);
    const rows = () => columns(all);
    const steps = {
      ArrowRight: () => at + 1,
      ArrowLeft: () => at - 1,
      ArrowDown: () => at + rows(),
      ArrowUp: () => at - rows(),
      Home: () => 0,
      End: () => all.length - 1,
    };
    const next = all[steps[event.key]?.()];
    if (!next) return;
    event.preventDefault();
    next.focus();
    next.scrollIntoView({ block: "nearest" });
  };

  tools.addEventListener("submit", (event) => event.preventDefault());
  tools.addEventListener("input", (event) => {
    if (event.target.name === "sort") sort();
    else filter();
  });
  for (const button of tools.querySelectorAll("[data-class]")) {
    button.addEventListener("click", () => {
      const on = gallery.classList.toggle(button.dataset.class);
      button.setAttribute("aria-pressed", String(on));
    });
  }
  gallery.addEventListener("keydown", walk);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target.closest("input, select, textarea")) return;
    event.preventDefault();
    field("text").focus();
  });
  // A browser that goes back to the page has kept what was chosen.
  if (field("sort").value !== "order") sort();
  filter();
};
if (document.querySelector("[data-gallery]")) startGallery(document);
