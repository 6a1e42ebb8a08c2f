// The trial to take: its mark in chart, table and details, its reasons, and what comes after it.
(() => {
  "use strict";

  const of = () => window.autosearch.data;
  const isTaken = (study, number) => Boolean(study.recommended) &&
    study.recommended.number === number;
  const after = (study) => (study.recommended && study.recommended.runners_up) || [];

  function sign(kind, text, title) {
    const { element } = window.autosearch.parts;
    return element("span", { class: kind, role: "img", title, "aria-label": title }, ` ${text}`);
  }

  // Null for any other trial.
  const mark = (study, number, text) => isTaken(study, number) ? sign("advised", text,
    `Recommended: ${study.recommended.reasons.join("; ")}`) : null;

  const runner = (study, number, text = "") => after(study).includes(number)
    ? sign("runner", `☆${text}`, `Runner-up of the recommended trial ${study.recommended.number}`)
    : null;

  const why = (study, number) => {
    const { element } = window.autosearch.parts;
    return isTaken(study, number) ? element("ul", { class: "reasons" },
      study.recommended.reasons.map((one) => element("li", {}, one))) : null;
  };

  // A star on the chart, where both figures of the trial are known; named in the legend of one
  // study, among the signs of several.
  function points(study, x, y, colour, look, several) {
    const i = study.recommended ? of().indexOf(study, study.recommended.number) : -1;
    if (i < 0 || [x, y].some((name) => of().figure(study, name, i) === null)) return [];
    return [{ type: "scatter", mode: "markers", name: "recommended", meta: study.name,
      x: [of().figure(study, x, i)], y: [of().figure(study, y, i)], customdata: [i],
      hoverinfo: "none", showlegend: !several, legendgroup: study.name,
      uid: `star-${[...study.name].map((s) => s.codePointAt(0).toString(16)).join("-")}`,
      marker: { symbol: "star", size: 17, color: colour,
        line: { width: 1.5, color: look.surface } } }];
  }

  // A line for each study that has one, with buttons that show the trials.
  function lines(studies, select) {
    const { element } = window.autosearch.parts;
    return studies.filter((study) => study.recommended).map((study) => {
      const { number } = study.recommended;
      const show = (n) => element("button", { type: "button", "data-recommended": n, onclick: () =>
        select(study, of().indexOf(study, n)) }, `trial ${n}`);
      const others = after(study);
      return element("p", {}, element("span", { class: "advised", "aria-hidden": "true" }, "★ "),
        studies.length > 1 ? `Recommended of ${study.name}: ` : "Recommended: ", show(number),
        others.length ? [". Next best: ", others.map((n, place) => [place ? ", " : "", show(n)])]
          : "", ".");
    });
  }

  // The trial that a page of one study begins with; null where there is none.
  function first(studies) {
    const [study] = studies;
    const i = studies.length === 1 && study.recommended
      ? of().indexOf(study, study.recommended.number) : -1;
    return i < 0 ? null : { study, i };
  }

  window.autosearch = Object.assign(window.autosearch || {}, {
    recommended: { first, lines, mark, points, runner, why },
  });
})();
