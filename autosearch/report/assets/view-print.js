// The page on paper, or saved as PDF: all of it is drawn, in light colours and as wide as a sheet.
(() => {
  "use strict";

  const CLASS = "printing";

  const isPrinting = (root) => root.classList.contains(CLASS);

  // How wide a chart is to be on paper, since Plotly does not see that its place has changed.
  const width = (root, place) => isPrinting(root) ? place.clientWidth : null;

  // Has a view drawn for paper while the browser prints, and as before afterwards.
  function prepare(root, view) {
    const provenance = () => [...root.querySelectorAll(".study-head details")];
    let opened = [];
    const begin = () => {
      if (isPrinting(root)) return;
      opened = provenance().filter((one) => one.open).map((one) => one.dataset.study);
      root.classList.add(CLASS);
      view.state.printing = true;
      view.drawAll();
      for (const one of provenance()) one.open = true;
    };
    const end = () => {
      if (!isPrinting(root)) return;
      root.classList.remove(CLASS);
      view.state.printing = false;
      for (const one of provenance()) one.open = opened.includes(one.dataset.study);
      view.draw();
      view.at.parallel.style.zoom = "";
      for (const chart of root.querySelectorAll(".js-plotly-plot:not(.parallel)")) {
        delete chart.layout.width;
        window.Plotly.Plots.resize(chart);
      }
    };
    window.addEventListener("beforeprint", begin);
    window.addEventListener("afterprint", end);
    // Where there are no such events.
    window.matchMedia("print").addEventListener("change", ({ matches }) =>
      matches ? begin() : end());
  }

  window.autosearch = Object.assign(window.autosearch || {}, { print: { isPrinting, prepare,
    width } });
})();
