// The budget below the chart: what the slider's place is worth, and the trial that it leads to.
(() => {
  "use strict";

  const STEPS = 1000;

  // What the slider's place is worth in the unit of the x axis.
  function limit(studies, state, direction) {
    const range = window.autosearch.data.range(studies, state.x);
    if (!range) return null;
    const share = state.budget / STEPS;
    const [from, to] = direction === "maximize" ? [range[1], range[0]] : range;
    if (share === 1) return to;
    return state.logX && range[0] > 0 ? from * (to / from) ** share : from + share * (to - from);
  }

  // Finds the trial and the bound, and says both below the chart of a view.
  function advise(view) {
    const { data, parts } = window.autosearch;
    const { studies, state, directions, at } = view;
    const { x, y } = state;
    const bound = limit(studies, state, directions.x);
    const test = [x, y].some((name) => name.startsWith(data.TEST));
    const possible = !test && directions.x && directions.y && bound !== null;
    view.advised = possible ? data.recommend(studies, x, y, directions, bound) : null;
    view.bound = possible ? bound : null;
    at.slider.disabled = !possible;
    at.slider.value = state.budget;
    if (!view.advised) {
      parts.fill(at.advice, test ? "A trial is chosen by its validation figures; test " +
        "figures are for reporting it." : "No trial to recommend yet.");
      return;
    }
    const told = data.withUnit(view.bound, data.described(studies, x).unit);
    at.slider.setAttribute("aria-valuetext", told);
    parts.fill(at.advice, parts.advice(studies, state, view.advised,
      `${directions.x === "minimize" ? "up to" : "from"} ${told}`,
      ({ study, i }) => view.select(study, i)));
  }

  window.autosearch = Object.assign(window.autosearch || {}, { budget: { STEPS, advise } });
})();
