// Charts of the space that is searched: which parameters matter, and what trials are made of.
(() => {
  "use strict";

  const AXIS_PIXELS = 58;

  const whose = (view) => view.studies.length > 1 ? ` Shown: ${view.current.name}.` : "";

  function importance(view) {
    const study = view.current;
    const chart = study && window.autosearch.charts.importance(study, view.look);
    view.at.importance.hidden = !chart;
    view.at.importanceCaption.textContent = chart
      ? "How much each parameter tells the best tenth of the trials from the rest, by " +
        `objective (PED-ANOVA).${whose(view)}`
      : "Known once there are ten complete trials that differ.";
    if (chart) view.plot("importance", chart);
  }

  function parallel(view) {
    const study = view.current;
    view.at.parallel.hidden = !study;
    if (!study) return;
    const mine = view.selected ? view.selected.i : null;
    const chart = window.autosearch.charts.parallel(study, view.state, mine, view.look);
    const { direction } = window.autosearch.data.described([study], view.state.y);
    view.at.parallelCaption.textContent = "A line is a trial, an axis a parameter or a figure, " +
      "whose better end is on top where it has one. " +
      "The front stands out; of the others up to 300, the stronger the blue, the " +
      `${direction ? "better" : "higher"} their ${view.state.y}. –: the trial does not have the parameter.${whose(view)}`;
    const width = view.at.parallel.parentElement.clientWidth;
    chart.layout.width = Math.max(width, AXIS_PIXELS * chart.count);
    // Paper cannot be scrolled.
    view.at.parallel.style.zoom = view.state.printing ? width / chart.layout.width : "";
    view.plot("parallel", chart, { ...view.config, responsive: false });
  }

  window.autosearch = Object.assign(window.autosearch || {}, { space: { importance, parallel } });
})();
