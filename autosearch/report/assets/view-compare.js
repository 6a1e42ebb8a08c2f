// Two trials side by side: in what they differ, their values, and their maps at the same images.
(() => {
  "use strict";

  const of = () => window.autosearch.data;
  const MAPS = "maps.jpg";
  const known = (value) => value !== null && value !== undefined;

  // What a configuration comes down to, or what was drawn where that was never found out.
  function configuration({ study, i }) {
    const read = (columns) => Object.entries(columns).map(([name, column]) => [name, column[i]])
      .filter(([, value]) => known(value));
    const whole = read(study.trials.canonical);
    const asked = new Map(read(study.trials.params));
    return new Map((whole.length ? whole : [...asked]).map(([name, value]) =>
      [name, { value, usual: !asked.has(name) }]));
  }

  // Names that differ and names that are equal, in the order of the first trial.
  function parted(names, equal) {
    const parts = { differing: [], equal: [] };
    for (const name of names) parts[equal(name) ? "equal" : "differing"].push(name);
    return parts;
  }

  function figures(pair) {
    const studies = pair.map(({ study }) => study);
    return of().axes(studies).filter((name) =>
      pair.some(({ study, i }) => known(of().figure(study, name, i))));
  }

  // The second value less the first, in words that say which is better.
  function difference(first, second, direction) {
    if (!known(first) || !known(second)) return "–";
    if (first === second) return "equal";
    const by = second - first;
    const share = first === 0 ? "" : ` (${by > 0 ? "+" : "−"}${of().format(Number(
      Math.abs((100 * by) / first).toPrecision(2)))}\u00a0%)`;
    const better = !direction ? "" : (direction === "maximize") === (by > 0) ? ", better"
      : ", worse";
    return `${by > 0 ? "+" : "−"}${of().format(Math.abs(by))}${share}${better}`;
  }

  function grid(heads, rows) {
    const { element } = window.autosearch.parts;
    return element("div", { class: "scroll", tabindex: "0", role: "region",
      "aria-label": `By ${heads[0]}` },
      element("table", { class: "plain" },
        element("thead", {}, element("tr", {}, heads.map((head) =>
          element("th", { scope: "col" }, head)))),
        element("tbody", {}, rows.map(([name, ...cells]) => element("tr", {},
          element("th", { scope: "row" }, name), cells.map((cell) => element("td", {}, cell)))))));
  }

  // What is equal, folded into one line.
  function folded(names, what, shown) {
    const { element, pairs } = window.autosearch.parts;
    return names.length ? element("details", {}, element("summary", {}, `${names.length} ` +
      `${what}${names.length === 1 ? " is" : "s are"} equal`),
    pairs(names.map((name) => [name, shown(name)]))) : null;
  }

  function settings(pair, heads) {
    const { element, setting } = window.autosearch.parts;
    const [first, second] = pair.map(configuration);
    const value = (of, name) => (of.has(name) ? of.get(name).value : null);
    const { differing, equal } = parted(new Set([...first.keys(), ...second.keys()]),
      (name) => value(first, name) === value(second, name));
    const cell = (from, name) => (from.has(name) ? setting(from.get(name)) : "–");
    return [element("h3", {}, "Configuration"),
      differing.length ? grid(["parameter", ...heads], differing.map((name) =>
        [name, cell(first, name), cell(second, name)]))
        : element("p", { class: "muted" }, "No parameter differs."),
      folded(equal, "parameter", (name) => cell(first, name))];
  }

  function values(pair, heads) {
    const { element } = window.autosearch.parts;
    const value = ({ study, i }, name) => of().figure(study, name, i);
    const always = new Set(pair[0].study.compared);
    const { differing, equal } = parted(figures(pair), (name) => !always.has(name) &&
      value(pair[0], name) === value(pair[1], name));
    const studies = pair.map(({ study }) => study);
    const row = (name) => {
      const { unit, direction } = of().described(studies, name);
      const both = pair.map((one) => value(one, name));
      return [unit ? `${name} (${unit})` : name, ...both.map(of().format),
        difference(...both, direction)];
    };
    return [element("h3", {}, "Values"),
      differing.length ? grid(["figure", ...heads, "difference"], differing.map(row))
        : element("p", { class: "muted" }, "Neither trial has values."),
      folded(equal, "figure", (name) => of().format(value(pair[0], name)))];
  }

  function maps(pair, heads, options) {
    const { element, picture } = window.autosearch.parts;
    const one = ({ study, i }, place) => {
      const number = study.trials.number[i];
      const owner = study.cached_from[number] ?? number;
      return element("div", {}, element("h4", {}, heads[place]), study.files[MAPS].includes(owner)
        ? picture(options, study, owner, MAPS)
        : element("p", { class: "muted" }, "No maps are kept of this trial."));
    };
    return [element("h3", {}, "Anomaly maps"), element("div", { class: "pair" }, pair.map(one))];
  }

  // All of it; `pair` has two trials, the one that was kept first.
  function body(pair, options) {
    const several = pair[0].study !== pair[1].study;
    const heads = pair.map(({ study, i }) => several
      ? `trial ${study.trials.number[i]} of ${study.name}` : `trial ${study.trials.number[i]}`);
    const { element } = window.autosearch.parts;
    return [element("div", { class: "pair" },
      element("div", {}, ...settings(pair, heads).filter(Boolean)),
      element("div", {}, ...values(pair, heads).filter(Boolean))),
    ...maps(pair, heads, options)];
  }

  // The comparison of a view, and a line below its chart that says what is compared.
  function draw(view) {
    const { element, fill } = window.autosearch.parts;
    const { compared, selected, state } = view;
    const told = ({ study, i }) => `trial ${study.trials.number[i]}` +
      (view.studies.length > 1 ? ` of ${study.name}` : "");
    const end = () => element("button", { type: "button", onclick: () => view.compare(null) },
      "End comparison");
    const same = compared && selected && compared.study === selected.study &&
      compared.i === selected.i;
    const both = compared && selected && !same;
    fill(view.at.kept, !state.compared ? null : !compared
      ? ["The trial to compare with is not here. ", end()]
      : both ? [`Beside each other, further down: ${told(compared)} and ${told(selected)}. `,
        element("button", { type: "button", onclick: () =>
          view.at.comparisonCard.scrollIntoView() }, "See both"), " ", end()]
        : [`Kept to compare with: ${told(compared)}. Choose another one. `, end()]);
    const shown = both && JSON.stringify([told(compared), told(selected),
      compared.study.trials.status[compared.i], selected.study.trials.status[selected.i],
      compared.study.tests[state.compared.number],
      selected.study.tests[state.selected.number]]);
    if (compared) view.at.second.show(state.compared);
    if (shown === view.shownBoth) return;
    view.shownBoth = shown;
    fill(view.at.comparison, both ? body([compared, selected],
      view.options) : null);
  }

  // The control by which a second trial is chosen. `choose` is called with a study's name and a
  // number, and says whether there is such a trial; `keep` keeps the selected one.
  function control(choose, keep) {
    const { element } = window.autosearch.parts;
    const number = element("input", { type: "number", min: 0, step: 1, required: true, class:
      "number" });
    const study = element("select", { "aria-label": "Study of that trial", hidden: true });
    const missing = element("span", { role: "alert" });
    const form = element("form", { class: "controls", onsubmit: (event) => {
      event.preventDefault();
      missing.textContent = choose(study.value, Number(number.value)) ? ""
        : `There is no trial ${number.value}.`;
    } }, element("label", {}, "Compare with trial ", number), study,
    element("button", { type: "submit" }, "Compare"),
    element("button", { type: "button", onclick: keep }, "Keep the selected trial"), missing);
    // Names of the studies to choose from.
    const offer = (names) => {
      if (names.join("\n") === [...study.options].map((one) => one.value).join("\n")) return;
      study.replaceChildren(...names.map((name) => element("option", { value: name }, name)));
      study.hidden = names.length < 2;
    };
    const show = ({ study: name, number: n }) => {
      study.value = name ?? study.options[0]?.value;
      number.value = n;
    };
    return { form, offer, show };
  }

  window.autosearch = Object.assign(window.autosearch || {}, {
    compare: { control, difference, draw },
  });
})();
