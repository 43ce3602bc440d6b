"use strict";
// Figures are unpacked and drawn when their section is opened; names and labels of a run get into
// the page as text only.
(() => {
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const plots = [];
  let drawing = Promise.resolve();

  function make(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  // Colours of plots are custom properties, which are looked up whenever a plot is painted.
  function repaint(view) {
    view.invalidate_painters();
    view.paint();
  }

  function shade(forced) {
    const chosen = forced ?? root.dataset.theme ?? (dark.matches ? "dark" : "light");
    root.dataset.shade = chosen;
    document.getElementById("theme").textContent = chosen === "dark" ? "Light" : "Dark";
    plots.forEach(repaint);
  }

  async function unpack(id) {
    const packed = Uint8Array.from(atob(document.getElementById(id).textContent), (character) =>
      character.charCodeAt(0),
    );
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).json();
  }

  function download(name, text) {
    const link = make("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }

  // What a pointer shows gets the colours of the page, too.
  const tip = `
    :host {
      max-width: min(36em, 46vw);
      --tooltip-color: var(--paper);
      --tooltip-text: var(--ink);
      --tooltip-border: var(--muted);
      --tooltip-arrow-color: var(--muted);
      --tooltip-arrow-inner-color: var(--paper);
    }
    .bk-tooltip-row-label { color: var(--muted); }
  `;

  function colourTips(view) {
    for (const tool of view.tool_views.values()) {
      for (const shown of tool.ttmodels?.values() ?? []) shown.stylesheets = [tip];
    }
  }

  // A plot reacts to a pointer only: who goes by keyboard is not to stop there.
  function leaveOut(node) {
    for (const child of node.querySelectorAll("*")) {
      if (child.hasAttribute("tabindex")) child.tabIndex = -1;
      if (child.shadowRoot) leaveOut(child.shadowRoot);
    }
  }

  async function drawFigure(figure, grid, level) {
    const box = make("figure", "figure");
    box.dataset.name = figure.name;
    const head = make("div", "head");
    const titles = make("div");
    if (figure.run) titles.append(make("div", "run", figure.run));
    titles.append(make(level, "", figure.title));
    const button = make("button", "", "CSV");
    button.type = "button";
    button.setAttribute("aria-label", `CSV: download the data of ${figure.title}`);
    button.addEventListener("click", () => download(figure.file, figure.csv));
    head.append(titles, button);
    const plot = make("div", "plot");
    plot.setAttribute("role", "img");
    plot.setAttribute("aria-label", figure.alternative);
    const caption = make("figcaption");
    caption.append(make("p", "", figure.meaning));
    const doubt = make("p", "doubt");
    doubt.append(make("strong", "", "When not to trust it: "), figure.doubt);
    caption.append(doubt);
    box.append(head, plot, caption);
    grid.append(box);
    const views = await Bokeh.embed.embed_item(figure.item, plot);
    leaveOut(plot);
    for (const view of views.roots.filter((one) => "invalidate_painters" in one)) {
      colourTips(view);
      plots.push(view);
    }
  }

  async function drawNow(host) {
    try {
      for (const group of await unpack(host.dataset.figures)) {
        const grid = make("div", "figures");
        host.append(grid);
        for (const figure of group) await drawFigure(figure, grid, host.dataset.level);
      }
      host.dataset.state = "drawn";
    } catch (error) {
      host.dataset.state = "failed";
      host.append(make("p", "problem", `The figures could not be drawn by this browser: ${error}`));
      console.error(error);
    }
  }

  // One after the other, so that the page stays usable meanwhile.
  function draw(host) {
    if (host.dataset.state) return;
    host.dataset.state = "drawing";
    drawing = drawing.then(() => drawNow(host));
  }

  const drawAllOf = (part) => part.querySelectorAll("[data-figures]").forEach(draw);

  function openTarget() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target?.tagName === "DETAILS") target.open = true;
  }

  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = root.dataset.shade === "dark" ? "light" : "dark";
    shade();
  });
  document.getElementById("open-all").addEventListener("click", () => {
    document.querySelectorAll("details").forEach((part) => (part.open = true));
  });
  for (const part of document.querySelectorAll("details")) {
    part.addEventListener("toggle", () => part.open && drawAllOf(part));
  }
  dark.addEventListener("change", () => shade());
  // Paper is white.
  window.addEventListener("beforeprint", () => shade("light"));
  window.addEventListener("afterprint", () => shade());
  window.addEventListener("hashchange", openTarget);
  shade();
  document.querySelectorAll("main > section > [data-figures]").forEach(draw);
  openTarget();
})();
