// Questions that can be put to a study's records, without drawing anything. A study is what
// `study_info` in Python gives; a trial is named by its index in the study's columns.
(() => {
  "use strict";

  const SCORED = new Set(["complete", "cached"]);
  const DURATION = { name: "duration", direction: "minimize", unit: "s",
    help: "from being asked for to being told" };

  const status = (study, i) => study.statuses[study.trials.status[i]];
  const scored = (study, i) => SCORED.has(status(study, i));
  const indexOf = (study, number) => study.trials.number.indexOf(number);

  // How a test figure is named among the axes and columns.
  const TEST = "test ";

  function testFigure(study, i, name) {
    const kept = study.tests[study.trials.number[i]];
    return kept ? kept.metrics[name] : null;
  }

  // Value of an objective, a measured figure, a test figure or the duration; null where missing.
  function figure(study, name, i) {
    if (name.startsWith(TEST)) return testFigure(study, i, name.slice(TEST.length));
    const column = name === DURATION.name ? study.trials.duration : study.trials.figures[name];
    const value = column ? column[i] : null;
    return value === undefined ? null : value;
  }

  // Name, direction, unit and help. Test figures have no direction: they are not there to choose.
  function described(studies, name) {
    if (name === DURATION.name) return DURATION;
    const bare = name.startsWith(TEST) ? name.slice(TEST.length) : name;
    const known = studies.map((study) => study.figures[bare]).find(Boolean);
    const { unit, help, direction } = known || { unit: "", help: "", direction: "" };
    return bare === name ? { name, unit, help, direction }
      : { name, unit, help: help && `${help}, on the test split`, direction: "" };
  }

  // Names of all that can stand on an axis: what trials are compared by, then all else that is
  // measured, then test figures.
  function axes(studies) {
    const names = new Set();
    for (const study of studies) for (const name of study.compared) names.add(name);
    for (const study of studies) for (const name of Object.keys(study.figures)) names.add(name);
    names.add(DURATION.name);
    for (const study of studies) {
      for (const kept of [...Object.values(study.tests), ...study.ensembles]) {
        for (const name of Object.keys(kept.metrics)) names.add(TEST + name);
      }
    }
    return [...names];
  }

  // Cost to the right, quality upwards: the first objective of each direction, where there is one.
  function defaultAxes(studies) {
    const all = studies.length ? studies[0].objectives : [];
    const y = all.find((one) => one.direction === "maximize") || all[all.length - 1];
    const x = all.find((one) => one !== y && one.direction === "minimize") ||
      all.find((one) => one !== y) || DURATION;
    return { x: x.name, y: y ? y.name : DURATION.name };
  }

  // Whether a figure spans so much that small values would lie on top of each other.
  function wide(studies, name) {
    const ends = range(studies, name);
    return Boolean(ends) && ends[0] > 0 && ends[1] / ends[0] > 30;
  }

  // Scored trials that no other one dominates in the two figures, best x first. Looked up again
  // and again while a slider moves, so each is found once.
  const fronts = new WeakMap();
  function front(study, x, y, directions) {
    if (!fronts.has(study)) fronts.set(study, new Map());
    const known = fronts.get(study);
    const key = JSON.stringify([x, y]);
    if (!known.has(key)) known.set(key, findFront(study, x, y, directions));
    return known.get(key);
  }

  function findFront(study, x, y, directions) {
    const sign = (direction) => (direction === "minimize" ? 1 : -1);
    const [sx, sy] = [sign(directions.x), sign(directions.y)];
    const points = [];
    for (let i = 0; i < study.trials.number.length; i++) {
      if (!scored(study, i)) continue;
      const [a, b] = [figure(study, x, i), figure(study, y, i)];
      if (a !== null && b !== null) points.push([sx * a, sy * b, i]);
    }
    points.sort((p, q) => p[0] - q[0] || p[1] - q[1] || p[2] - q[2]);
    const kept = [];
    let best = Infinity;
    for (const [, cost, i] of points) {
      if (cost < best) {
        best = cost;
        kept.push(i);
      }
    }
    return kept;
  }

  // Trials to stand out in a chart of two figures: their front, or where one of them has no
  // direction, the study's own.
  function outstanding(study, x, y, directions) {
    if (directions.x && directions.y) return front(study, x, y, directions);
    return study.front.map((number) => indexOf(study, number))
      .filter((i) => figure(study, x, i) !== null && figure(study, y, i) !== null)
      .sort((a, b) => figure(study, x, a) - figure(study, x, b));
  }

  // The trial with the best y among those whose x keeps to the budget, over several studies.
  function recommend(studies, x, y, directions, budget) {
    let best = null;
    for (const study of studies) {
      for (const i of front(study, x, y, directions)) {
        const [a, b] = [figure(study, x, i), figure(study, y, i)];
        if (directions.x === "minimize" ? a > budget : a < budget) continue;
        const better = !best || (directions.y === "minimize" ? b < best.y : b > best.y);
        if (better) best = { study, i, x: a, y: b };
      }
    }
    return best;
  }

  function range(studies, name) {
    let [low, high] = [Infinity, -Infinity];
    for (const study of studies) {
      for (let i = 0; i < study.trials.number.length; i++) {
        const value = scored(study, i) ? figure(study, name, i) : null;
        if (value !== null) [low, high] = [Math.min(low, value), Math.max(high, value)];
      }
    }
    return low <= high ? [low, high] : null;
  }

  // A configuration in rows by stage (`stage0.kernel_size`: row "stage 0", column "kernel size");
  // names without a dot stand by themselves. What has no effect is not in it. Values are
  // {value, usual}; usual is one that nobody asked for, which is the runner's default.
  function architecture(study, i) {
    const columns = study.trials.canonical;
    const whole = [], rows = new Map(), heads = [];
    for (const name of Object.keys(columns)) {
      const value = columns[name][i];
      if (value === null || value === undefined) continue;
      const dot = name.lastIndexOf(".");
      if (dot < 0) {
        whole.push([words(name), { value, usual: !searched(study, name, i) }]);
        continue;
      }
      const [row, head] = [words(name.slice(0, dot)), words(name.slice(dot + 1))];
      if (!rows.has(row)) rows.set(row, new Map());
      if (!heads.includes(head)) heads.push(head);
      rows.get(row).set(head, { value, usual: !searched(study, name, i) });
    }
    const inOrder = [...rows.keys()].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    return { whole, heads, rows: inOrder.map((row) => [row, rows.get(row)]) };
  }

  const words = (name) => name.replace(/_/g, " ").replace(/([a-z])(\d+)$/, "$1 $2");

  const known = (value) => value !== null && value !== undefined;

  // Whether a parameter was drawn or fixed by the space, for the trial.
  const searched = (study, name, i) => known((study.trials.params[name] || [])[i]);

  // Values of the parameters as drawn, those that the trial has; then, of groups such as stages,
  // defaults that have a part built. As [name, {value, usual}].
  function parameters(study, i) {
    const drawn = Object.keys(study.trials.params).filter((name) => searched(study, name, i));
    const usual = Object.keys(study.trials.canonical).filter((name) => name.includes(".") &&
      !searched(study, name, i) && isOn(study.trials.canonical[name][i]));
    return [...drawn.map((name) => [name, { value: study.trials.params[name][i], usual: false }]),
      ...usual.map((name) => [name, { value: study.trials.canonical[name][i], usual: true }])];
  }

  // A value that leaves nothing out; none stands for null, see `_columns` in info.py.
  const isOn = (value) => known(value) && value !== "none" && value !== false;

  function format(value) {
    if (value === null || value === undefined) return "–";
    if (typeof value !== "number") return String(value);
    if (Number.isInteger(value)) return Math.abs(value) < 1e5 ? String(value) : grouped(value);
    if (Math.abs(value) >= 1e5) return grouped(Math.round(value));
    return value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential(2)
      : String(Number(value.toPrecision(4)));
  }

  const grouped = (value) => value.toLocaleString("en").replace(/,/g, "\u2009");

  function withUnit(value, unit) {
    return unit && value !== null ? `${format(value)} ${unit}` : format(value);
  }

  const COMPARE = {
    "<": (a, b) => a < b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, ">=": (a, b) => a >= b,
    "=": (a, b) => String(a) === String(b) || a === Number(b),
  };

  // A test of trials from a text such as `front rwap>0.4 width=1.2 stain`: words must all hold.
  function matcher(study, text) {
    const onFront = new Set(study.front);
    const tests = text.trim().split(/\s+/).filter(Boolean).map((word) => {
      const parts = word.match(/^([^<>=]+)(<=|>=|<|>|=)(.+)$/);
      if (!parts) {
        const sought = word.toLowerCase();
        return (i) => sought === "front" ? onFront.has(study.trials.number[i])
          : haystack(study, i).includes(sought);
      }
      const [, name, sign, bound] = parts;
      return (i) => {
        const value = named(study, name, i);
        return value !== null && COMPARE[sign](value, sign === "=" ? bound : Number(bound));
      };
    });
    return (i) => tests.every((test) => test(i));
  }

  function named(study, name, i) {
    if (name === "trial") return study.trials.number[i];
    if (name === "status") return status(study, i);
    const column = study.trials.params[name];
    return column ? column[i] ?? null : figure(study, name, i);
  }

  function haystack(study, i) {
    const number = study.trials.number[i];
    const told = [study.reasons[number], (study.notes || {})[number]?.text].filter(Boolean);
    return `${number} ${status(study, i)} ${study.name} ${told.join(" ")}`.toLowerCase();
  }

  // A word as a POSIX shell reads it.
  const quoted = (text) =>
    /^[\w./@%+=:,-]+$/.test(text) ? text : `'${text.replace(/'/g, `'\\''`)}'`;

  window.autosearch = Object.assign(window.autosearch || {}, {
    data: { TEST, architecture, axes, defaultAxes, described, figure, format, front, indexOf,
      isOn, matcher, named, outstanding, parameters, quoted, range, recommend, scored, status,
      wide, withUnit },
  });
})();
