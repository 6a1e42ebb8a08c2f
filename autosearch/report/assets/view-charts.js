// Charts as plotly.js wants them: each function returns traces and layout, and draws nothing.
(() => {
  "use strict";

  const of = () => window.autosearch.data;
  // Okabe and Ito's colours, told apart with every kind of colour vision; where the page is light,
  // two of them darker, so that each has 3:1 against the page (WCAG 1.4.11).
  const COLOURS = {
    light: ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#A87300", "#2C8FC9"],
    dark: ["#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#F0E442", "#D55E00"],
  };
  const SHADES = {
    light: ["#c8d8e4", "#9dc0d8", "#6ba5c9", "#3687b5", "#00568c"],
    dark: ["#33434f", "#3f627a", "#4b86ac", "#63aedd", "#b5dcf5"],
  };
  const DASHES = ["solid", "dash", "dot", "dashdot", "longdash"];
  const KINDS = {
    complete: { symbol: "circle-open", glyph: "○", label: "dominated" },
    cached: { symbol: "square-open", glyph: "□", label: "cached" },
    infeasible: { symbol: "triangle-up-open", glyph: "△", label: "infeasible" },
    pruned: { symbol: "triangle-down-open", glyph: "▽", label: "pruned" },
    failed: { symbol: "x-thin-open", glyph: "×", label: "failed" },
  };
  const LOST = ["failed", "infeasible", "pruned"];
  const IMPORTANCE_BARS = 12;
  const PARALLEL_LINES = 300;
  // Where a line passes the axis of a parameter that its trial does not have.
  const ABSENT = -0.1;
  const [MARKED_POINTS, COUNTED_STEPS] = [20, 8];
  const [NAME_SIGNS, TITLE_SIGNS] = [36, 22];

  function theme(root) {
    const style = getComputedStyle(root);
    const read = (name) => style.getPropertyValue(name).trim();
    const dark = window.matchMedia("(prefers-color-scheme: dark)").matches &&
      !window.autosearch.print.isPrinting(root);
    const colours = COLOURS[dark ? "dark" : "light"];
    return {
      text: read("--text"), muted: read("--muted"), line: read("--line"),
      surface: read("--surface"), font: read("--font"), colours,
      shades: SHADES[dark ? "dark" : "light"], chosen: colours[2], kept: colours[1],
      kinds: { complete: read("--muted"), cached: read("--muted"), infeasible: colours[4],
        pruned: colours[3], failed: dark ? "#ff8a5c" : "#D55E00" },
    };
  }

  // Plotly reads some tags in labels; names of studies and trials are no markup.
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;");

  // What makes a trace the same in newer data. Plotly puts it into selectors as it is.
  const uid = (kind, name) =>
    `${kind}-${[...name].map((sign) => sign.codePointAt(0).toString(16)).join("-")}`;

  const colourOf = (look, s) => look.colours[s % look.colours.length];
  const dashOf = (s, length) => DASHES[Math.floor(s / length) % DASHES.length];

  function axisTitle(name, about) {
    const unit = about.unit ? ` (${about.unit})` : "";
    const better = { minimize: ", lower is better", maximize: ", higher is better" };
    return plain(name) + unit + (better[about.direction] || "");
  }

  function base(look, more) {
    const axis = { gridcolor: look.line, zeroline: false, linecolor: look.line,
      automargin: true, tickfont: { size: 12 } };
    const { xaxis, yaxis, ...rest } = more;
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: look.font, size: 13, color: look.text },
      margin: { l: 8, r: 8, t: 8, b: 8 }, hovermode: "closest", showlegend: false,
      modebar: { bgcolor: "rgba(0,0,0,0)", color: look.muted, activecolor: look.text },
      hoverlabel: { bgcolor: look.surface, font: { color: look.text } },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { size: 12 } },
      xaxis: { ...axis, ...xaxis }, yaxis: { ...axis, ...yaxis }, ...rest,
    };
  }

  // Places of a study's trials by kind; those on the front of the two axes stand by themselves.
  function byKind(study, state, directions) {
    const onFront = of().outstanding(study, state.x, state.y, directions);
    const isFront = new Set(onFront);
    const places = { front: onFront };
    for (let i = 0; i < study.trials.number.length; i++) {
      const kind = of().status(study, i);
      if (isFront.has(i) || !KINDS[kind]) continue;
      const known = of().figure(study, state.x, i) !== null &&
        of().figure(study, state.y, i) !== null;
      if (known) (places[kind] ||= []).push(i);
    }
    return places;
  }

  function scatter(studies, comparison, state, look) {
    const about = { x: of().described(studies, state.x), y: of().described(studies, state.y) };
    const directions = { x: about.x.direction, y: about.y.direction };
    const several = studies.length > 1;
    const traces = comparison.flatMap((group) => band(studies, group, state, look));
    const fronts = [];
    studies.forEach((study, s) => {
      const places = byKind(study, state, directions);
      const points = (indices) => ({
        x: indices.map((i) => of().figure(study, state.x, i)),
        y: indices.map((i) => of().figure(study, state.y, i)),
        customdata: indices, meta: study.name, hoverinfo: "none", type: "scatter",
        legendgroup: several ? study.name : undefined,
      });
      for (const [kind, one] of Object.entries(KINDS)) {
        if (!places[kind]) continue;
        const colour = several ? colourOf(look, s) : look.kinds[kind];
        traces.push({ ...points(places[kind]), mode: "markers", name: one.label,
          uid: uid(kind, study.name), showlegend: !several, opacity: several ? 0.5 : 0.75,
          marker: { symbol: one.symbol, size: 7, color: colour, line: { width: 1.3 } } });
      }
      const colour = colourOf(look, s);
      fronts.push({ ...points(places.front), uid: uid("front", study.name),
        mode: directions.x && directions.y ? "lines+markers" : "markers",
        name: several ? plain(study.name) : "Pareto front", showlegend: true,
        line: { shape: "hv", width: 2, color: colour, dash: dashOf(s, look.colours.length) },
        marker: { symbol: "circle", size: 9, color: colour } },
      ...window.autosearch.ensembles.points(study, state.x, state.y, colour),
      ...window.autosearch.recommended.points(study, state.x, state.y,
        several ? colour : look.chosen, look, several));
    });
    const type = (log) => (log ? "log" : "linear");
    const layout = base(look, {
      xaxis: { title: { text: axisTitle(state.x, about.x) }, type: type(state.logX) },
      yaxis: { title: { text: axisTitle(state.y, about.y) }, type: type(state.logY) },
      uirevision: JSON.stringify([state.x, state.y, state.logX, state.logY]),
      showlegend: true, dragmode: window.matchMedia("(pointer: coarse)").matches ? false : "zoom",
    });
    return { traces: [...traces, ...fronts], layout };
  }

  // What repeated studies reach within a budget: median, and the range from worst to best.
  function band(studies, group, state, look) {
    const found = group.attainment;
    if (!found || found.names[0] !== state.x || found.names[1] !== state.y) return [];
    const start = found.worst.findIndex((value) => value !== null);
    if (start < 0) return [];
    const colour = colourOf(look, group.studies[0]);
    const names = group.studies.map((s) => plain(studies[s].name)).join(", ");
    const line = (key, more) => ({
      type: "scatter", mode: "lines", x: found.x.slice(start), y: found[key].slice(start),
      hoverinfo: "skip", line: { shape: "hv", width: 0 }, showlegend: false,
      legendgroup: `band ${names}`, uid: uid(key, names), ...more,
    });
    return [
      line("worst"),
      line("best", { fill: "tonexty", fillcolor: `${colour}2e` }),
      line("median", { line: { shape: "hv", width: 3, color: `${colour}90`, dash: "dot" },
        name: `median and range of ${group.studies.length} studies`, showlegend: true }),
    ];
  }

  // Trials that reached no objective values, in order of number; null if there are none.
  function lost(studies, look) {
    const traces = [];
    studies.forEach((study, s) => {
      for (const kind of LOST) {
        const places = study.trials.number.map((_, i) => i)
          .filter((i) => of().status(study, i) === kind);
        if (!places.length) continue;
        const colour = studies.length > 1 ? colourOf(look, s) : look.kinds[kind];
        traces.push({ type: "scatter", mode: "markers", x: places.map((i) =>
          study.trials.number[i]), y: places.map(() => kind), customdata: places,
          meta: study.name, hoverinfo: "none", uid: uid(kind, study.name),
          marker: { symbol: KINDS[kind].symbol, size: 8, color: colour, line: { width: 1.5 } } });
      }
    });
    if (!traces.length) return null;
    const present = LOST.filter((kind) => traces.some((trace) => trace.y[0] === kind));
    return { traces, layout: base(look, { height: 72 + 22 * present.length, uirevision: "lost",
      dragmode: false, xaxis: { title: { text: "trial number", standoff: 6 },
        rangemode: "tozero" },
      yaxis: { type: "category", categoryorder: "array", categoryarray: present.reverse(),
        range: [-0.6, present.length - 0.4] } }) };
  }

  function hypervolume(studies, comparison, look) {
    const traces = [];
    for (const group of comparison.filter((one) => one.hypervolume)) {
      const { mean, low, high } = group.hypervolume;
      const colour = colourOf(look, group.studies[0]);
      const x = mean.map((_, i) => i + 1);
      const line = { type: "scatter", mode: "lines", x, hoverinfo: "skip", showlegend: false };
      traces.push({ ...line, y: low, line: { shape: "hv", width: 0 } },
        { ...line, y: high, line: { shape: "hv", width: 0 }, fill: "tonexty",
          fillcolor: `${colour}2e` },
        { ...line, y: mean, line: { shape: "hv", width: 3, dash: "dot", color: `${colour}90` },
          showlegend: true, name: `mean and range of ${group.studies.length} studies` });
    }
    studies.forEach((study, s) => {
      const curve = curveOf(study, s, comparison);
      if (!curve) return;
      // Only where it rises: the line is a step in between.
      const turns = curve.map((_, i) => i).filter((i) =>
        i === 0 || i === curve.length - 1 || curve[i] !== curve[i - 1]);
      traces.push({ type: "scatter", mode: "lines", name: plain(study.name),
        x: turns.map((i) => i + 1), y: turns.map((i) => curve[i]),
        hovertemplate: "after %{x} trials: %{y:.3f}<extra></extra>",
        line: { shape: "hv", width: 2, color: colourOf(look, s),
          dash: dashOf(s, look.colours.length) } });
    });
    return { traces, layout: base(look, { uirevision: "hypervolume", dragmode: false,
      showlegend: studies.length > 1,
      xaxis: { title: { text: "trials" }, range: [0, 1.02 * Math.max(1, ...studies.map((study) =>
        study.trials.number.length))] },
      yaxis: { title: { text: "hypervolume, higher is better" }, range: [0, 1.02] } }) };
  }

  // In a group of studies all are measured with one box, or they could not be compared.
  function curveOf(study, s, comparison) {
    const group = comparison.find((one) => one.hypervolume && one.studies.includes(s));
    return group ? group.hypervolume.curves[group.studies.indexOf(s)] : study.hypervolume;
  }

  // The parameters that matter most; null where that is not known.
  function importance(study, look) {
    const objectives = Object.keys(study.importance);
    if (!objectives.length) return null;
    const highest = {};
    for (const shares of Object.values(study.importance)) {
      for (const [name, share] of Object.entries(shares)) {
        highest[name] = Math.max(highest[name] || 0, share);
      }
    }
    const names = Object.keys(highest).sort((a, b) => highest[b] - highest[a])
      .slice(0, IMPORTANCE_BARS).reverse();
    const traces = objectives.map((objective, place) => ({
      type: "bar", orientation: "h", name: plain(objective), y: names.map(plain),
      x: names.map((name) => study.importance[objective][name] || 0),
      marker: { color: colourOf(look, place) },
      hovertemplate: "%{y}: %{x:.0%}<extra></extra>",
    }));
    return { traces, layout: base(look, { uirevision: "importance", dragmode: false,
      barmode: "group", bargap: 0.3, showlegend: true, height: 90 + 30 * names.length,
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, traceorder: "normal" },
      xaxis: { tickformat: ".0%", rangemode: "tozero", title: { text: "share of importance" } },
      yaxis: { ticks: "" } }) };
  }

  // Lines through the values of all parameters, the front in front of a sample of the others.
  function parallel(study, state, selected, look) {
    const dimensions = dimensionsOf(study, state);
    const shown = sample(study, state);
    const worth = falls(study, state.y) ? -1 : 1;
    const value = (i) => worth * of().figure(study, state.y, i);
    const sorted = shown.others.map(value).sort((a, b) => a - b);
    const shade = (i) => Math.min(4, Math.floor(5 * sorted.indexOf(value(i)) / sorted.length));
    const groups = look.shades.map((colour, place) => ({ colour, width: 1, opacity: 0.55,
      members: shown.others.filter((i) => shade(i) === place) }));
    const faint = Math.min(0.9, Math.max(0.2, 12 / shown.front.length));
    groups.push({ colour: colourOf(look, 1), width: 1.5, opacity: faint, members: shown.front });
    if (selected !== null && of().scored(study, selected)) {
      groups.push({ colour: look.text, width: 3, opacity: 1, members: [selected] });
    }
    const traces = groups.filter((group) => group.members.length).map((group) => ({
      type: "scatter", mode: "lines", hoverinfo: "none", opacity: group.opacity,
      ...lines(dimensions, group.members), meta: study.name, connectgaps: false,
      line: { color: group.colour, width: group.width },
    }));
    traces.push(labels(dimensions, look));
    return { traces, layout: base(look, {
      uirevision: "parallel", dragmode: false, height: 420, margin: { l: 90, r: 8, t: 12, b: 8 },
      shapes: dimensions.map((_, d) => ({ type: "line", x0: d, x1: d, y0: 0, y1: 1,
        layer: "below", line: { color: look.muted, width: 1 } })),
      xaxis: { range: [-0.5, dimensions.length + 0.1], showgrid: false, tickangle: -40,
        tickvals: dimensions.map((_, d) => d), ticktext: dimensions.map((one) => plain(one.name)) },
      yaxis: { visible: false, range: [ABSENT - 0.04, 1.04] } }),
    count: dimensions.length };
  }

  const falls = (study, name) => of().described([study], name).direction === "minimize";

  // Axes of the parameters and figures that differ: name, ticks, and the height of a value. Those
  // of figures to be minimised are upside down, so that better is on top of all.
  function dimensionsOf(study, state) {
    const found = [];
    const add = (name, column, down = false) => {
      const values = [...new Set(column.filter((v) => v !== null))];
      if (values.length < 2) return;
      const numeric = values.every((v) => typeof v === "number");
      values.sort((a, b) => (typeof a === "number") - (typeof b === "number") || (a > b ? 1 : -1));
      const [low, high] = [values[0], values[values.length - 1]];
      const height = numeric ? (v) => (down ? high - v : v - low) / (high - low)
        : (v) => values.indexOf(v) / (values.length - 1);
      found.push({ name, ticks: numeric && (values.length > 6 || !values.every(Number.isInteger))
        ? [low, high] : values,
        absent: study.trials.number.some((_, i) => column[i] === null && of().scored(study, i)),
        at: (i) => column[i] === null ? ABSENT : height(column[i]), height });
    };
    for (const [name, column] of Object.entries(study.trials.params)) add(name, column);
    for (const name of new Set([...study.compared, state.x, state.y])) {
      add(name, study.trials.number.map((_, i) => of().scored(study, i)
        ? of().figure(study, name, i) : null), falls(study, name));
    }
    return found;
  }

  function sample(study, state) {
    const onFront = new Set(study.front);
    const places = study.trials.number.map((_, i) => i).filter((i) => of().scored(study, i));
    const others = places.filter((i) => !onFront.has(study.trials.number[i]) &&
      of().figure(study, state.y, i) !== null);
    const step = Math.max(1, others.length / PARALLEL_LINES);
    const chosen = [];
    for (let at = 0; at < others.length; at += step) chosen.push(others[Math.floor(at)]);
    return { others: chosen, front: places.filter((i) => onFront.has(study.trials.number[i])) };
  }

  function lines(dimensions, members) {
    const [x, y, customdata] = [[], [], []];
    for (const i of members) {
      dimensions.forEach((one, d) => {
        x.push(d);
        y.push(one.at(i));
        customdata.push(i);
      });
      x.push(null);
      y.push(null);
      customdata.push(null);
    }
    return { x, y, customdata };
  }

  function labels(dimensions, look) {
    const points = dimensions.flatMap((one, d) => [
      ...one.ticks.map((v) => [d, one.height(v), plain(of().format(v))]),
      ...(one.absent ? [[d, ABSENT, "–"]] : [])]);
    return { type: "scatter", mode: "text", x: points.map((p) => p[0] + 0.06),
      y: points.map((p) => p[1]), text: points.map((p) => p[2]), textposition: "middle right",
      textfont: { size: 11, color: look.text }, hoverinfo: "skip", cliponaxis: false };
  }

  // One panel of the curves of a training, in a place as many pixels wide.
  function curve(curves, panel, look, width) {
    const series = Object.entries(panel.series);
    const names = series.map(([name]) => cut(name, NAME_SIGNS));
    const known = series.map(([, numbers]) => numbers.filter((v) => v !== null));
    const [low, high] = [Math.min(...known.flat()), Math.max(...known.flat())];
    const decades = low > 0 ? Math.log10(high / low) : 0;
    const traces = series.map(([name, numbers], s) => ({ type: "scatter", name: plain(names[s]),
      mode: known[s].length > MARKED_POINTS ? "lines" : "lines+markers", marker: { size: 4 },
      x: curves.at, y: numbers, connectgaps: true, uid: uid("curve", name),
      hovertemplate: "%{y:.4~g}", line: { width: 1.5, color: colourOf(look, s),
        dash: dashOf(s, look.colours.length) } }));
    const several = series.length > 1;
    const title = (text) => ({ text, standoff: 5, font: { size: 12 } });
    const margin = Math.max(0.3, 0.02 * curves.steps);
    return { traces, layout: base(look, { uirevision: "curve", dragmode: false,
      hovermode: "x unified", showlegend: several,
      height: 180 + (several ? legendHeight(names, width) : 0),
      xaxis: { title: title(plain(curves.x)), range: [1 - margin, curves.steps + margin],
        nticks: 8, ...(curves.steps <= COUNTED_STEPS ? { dtick: 1 } : {}) },
      // Plotly enlarges the powers of ten.
      yaxis: { title: title(folded(panel.title).map(plain).join("<br>")), nticks: 5,
        exponentformat: "power", ...(decades > 2 ? { type: "log", tickfont: { size: 10 },
          dtick: Math.ceil(decades / 4) } : {}) } }) };
  }

  // Plotly lays a legend out in columns as wide as its longest name, where one row does not do.
  function legendHeight(names, width) {
    const widths = names.map((name) => 46 + 6.5 * name.length);
    if (widths.reduce((a, b) => a + b) < width) return 20;
    return 20 * Math.ceil(names.length / Math.max(1, Math.floor(width / Math.max(...widths))));
  }

  const cut = (text, most) => text.length > most ? `${text.slice(0, most - 1)}…` : text;

  // A text in at most two lines that fit beside a small chart.
  function folded(text) {
    if (text.length <= TITLE_SIGNS) return [text];
    const space = text.lastIndexOf(" ", TITLE_SIGNS);
    return space < 0 ? [cut(text, TITLE_SIGNS)]
      : [text.slice(0, space), cut(text.slice(space + 1), TITLE_SIGNS)];
  }

  window.autosearch = Object.assign(window.autosearch || {}, {
    charts: { KINDS, theme, scatter, lost, hypervolume, importance, parallel, curve,
      colourOf },
  });
})();
