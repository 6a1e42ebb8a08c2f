// Several trials as one detector, evaluated by hand: points and rows beside those of trials.
(() => {
  "use strict";

  const of = () => window.autosearch.data;

  // An objective or a test figure of an ensemble; null where it is not known.
  function figure(ensemble, name) {
    const test = name.startsWith(of().TEST);
    const values = test ? ensemble.metrics : ensemble.figures;
    return values[test ? name.slice(of().TEST.length) : name] ?? null;
  }

  // A trace of those ensembles whose figures are both known, labelled by their trials.
  function points(study, x, y, colour) {
    const placed = study.ensembles.filter((one) => figure(one, x) !== null &&
      figure(one, y) !== null);
    if (!placed.length) return [];
    return [{ type: "scatter", mode: "markers+text", name: "ensemble", meta: study.name,
      x: placed.map((one) => figure(one, x)), y: placed.map((one) => figure(one, y)),
      text: placed.map((one) => one.name), textposition: "top center", textfont: { size: 11 },
      hoverinfo: "none", showlegend: true,
      uid: `ensembles-${[...study.name].map((sign) => sign.codePointAt(0).toString(16)).join("-")}`,
      marker: { symbol: "diamond", size: 10, color: colour } }];
  }

  // Rows below those of trials, under the same columns.
  function rows(studies, columns, several) {
    const { element } = window.autosearch.parts;
    const cell = (one, { name }) => {
      if (name === "trial") return one.name;
      return name === "status" ? "ensemble" : of().format(figure(one, name));
    };
    return studies.flatMap((study) => study.ensembles.map((one) => element("tr",
      { class: "ensemble" }, several ? element("td", {}, study.name) : null,
      columns.map((column) => element("td", { class: column.numeric ? "number" : null },
        cell(one, column))))));
  }

  window.autosearch = Object.assign(window.autosearch || {}, { ensembles: { points, rows } });
})();
