// Marks on the chart that are no trials: the budget as a line, rings around trials.
(() => {
  "use strict";

  // A path of four curves, since plotly.js cuts its own circles in half on logarithmic axes.
  function circle(radius) {
    const pull = 0.5523 * radius;
    const curve = (a, b, c, d, e, f) => `C ${a},${b} ${c},${d} ${e},${f}`;
    return [`M ${radius},0`, curve(radius, pull, pull, radius, 0, radius),
      curve(-pull, radius, -radius, pull, -radius, 0),
      curve(-radius, -pull, -pull, -radius, 0, -radius),
      curve(pull, -radius, radius, -pull, radius, 0), "Z"].join(" ");
  }

  // Rings are around the trial that the budget leads to, the one that is kept to compare with
  // (dotted) and the selected one.
  function marks({ advised, bound, compared, look, selected, state }) {
    const { figure } = window.autosearch.data;
    const shapes = bound === null ? [] : [{ type: "line", yref: "paper", x0: bound, x1: bound,
      y0: 0, y1: 1, line: { color: look.chosen, width: 1.5, dash: "dash" } }];
    const rings = [[advised, 11, look.chosen, "solid"], [compared, 8, look.kept, "dot"],
      [selected, 8, look.text, "solid"]];
    for (const [trial, size, color, dash] of rings) {
      const [x, y] = [state.x, state.y].map((name) => trial && figure(trial.study, name, trial.i));
      if (x === null || y === null) continue;
      shapes.push({ type: "path", path: circle(size), xsizemode: "pixel", ysizemode: "pixel",
        xanchor: x, yanchor: y, line: { color, width: 2.5, dash } });
    }
    return shapes;
  }

  window.autosearch = Object.assign(window.autosearch || {}, { marks });
})();
