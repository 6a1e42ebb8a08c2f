// The table of all trials: its columns, its order, and one page of it.
(() => {
  "use strict";

  const of = () => window.autosearch.data;
  const [PAGE, PRINTED] = [25, 500];

  function columnsOf(studies, state) {
    const figures = of().axes(studies).map((name) => ({ name, numeric: true }));
    const params = state.withParameters
      ? [...new Set(studies.flatMap((study) => Object.keys(study.trials.params)))]
        .map((name) => ({ name, numeric: false })) : [];
    return [{ name: "trial", numeric: true }, { name: "status", numeric: false }, ...figures,
      ...params];
  }

  // Rows of the table that pass the filter, in order; missing values always come last.
  function tableRows(studies, state) {
    const rows = [];
    for (const study of studies) {
      const wanted = of().matcher(study, state.filter);
      for (let i = 0; i < study.trials.number.length; i++) if (wanted(i)) rows.push({ study, i });
    }
    const { column, down } = state.sort;
    const value = new Map(rows.map((row) => [row, of().named(row.study, column, row.i)]));
    const missing = (v) => v === null || v === undefined;
    return rows.sort((a, b) => {
      const [p, q] = [value.get(a), value.get(b)];
      if (missing(p) || missing(q)) return missing(p) - missing(q);
      const order = typeof p === typeof q ? (p > q) - (p < q)
        : String(p).localeCompare(String(q));
      return down ? -order : order;
    });
  }

  // One page of the table. `change` is called with what is to become of the state, `select` with a
  // trial and the event that chose it.
  function table(studies, state, change, select) {
    const { element } = window.autosearch.parts;
    const { mark, runner } = window.autosearch.recommended;
    const several = studies.length > 1;
    const columns = columnsOf(studies, state);
    const rows = tableRows(studies, state);
    const size = state.printing ? PRINTED : PAGE;
    const pages = Math.max(1, Math.ceil(rows.length / size));
    const page = Math.min(state.page, pages - 1);
    const head = (column) => {
      const sorted = state.sort.column === column.name;
      const about = of().described(studies, column.name);
      const arrow = sorted ? (state.sort.down ? " ▼" : " ▲") : "";
      const title = column.name + (about.unit ? ` (${about.unit})` : "") + arrow;
      return element("th", { scope: "col", class: column.numeric ? "number" : null, title:
        about.help || null, "aria-sort": sorted ? (state.sort.down ? "descending" : "ascending")
        : "none" }, state.printing ? title : element("button", { type: "button",
        "data-column": column.name, onclick: () =>
          change({ sort: { column: column.name, down: sorted ? !state.sort.down
            : about.direction === "maximize" }, page: 0 }) }, title));
    };
    const row = ({ study, i }) => {
      const number = study.trials.number[i];
      const is = (one) => one && one.study === study.name && one.number === number;
      const kinds = [is(state.selected) && "chosen", is(state.compared) && "kept"].filter(Boolean);
      const shown = (column) => {
        const value = of().named(study, column.name, i);
        if (column.name === "trial") {
          return element("button", { type: "button", class: "link", "aria-label":
            `Show trial ${number}` }, String(value));
        }
        if (column.name !== "status") return of().format(value);
        const kind = study.front.includes(number) ? "front" : value;
        return [element("span", { class: `status ${kind}` }, kind),
          mark(study, number, "★"), runner(study, number),
          window.autosearch.notes.sign(study, number)];
      };
      return element("tr", { class: kinds.join(" ") || null,
        "aria-current": is(state.selected) && "true",
        onclick: (event) => select(study, i, event),
        // Shift would mark text from the last click to this one.
        onmousedown: (event) => event.shiftKey && event.preventDefault() },
        several ? element("td", {}, study.name) : null,
        columns.map((column) => element("td", { class: column.numeric ? "number" : null },
          shown(column))));
    };
    const turn = (to, label) => element("button", { type: "button", disabled: to < 0 ||
      to >= pages, onclick: () => change({ page: to }) }, label);
    return [
      element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Trials" },
        element("table", { class: "trials" },
          element("thead", {}, element("tr", {},
            several ? element("th", { scope: "col" }, "study") : null, columns.map(head))),
          element("tbody", {}, rows.slice(page * size, (page + 1) * size).map(row)),
          element("tfoot", {}, window.autosearch.ensembles.rows(studies, columns, several)))),
      element("div", { class: "pages" }, turn(page - 1, "Previous"),
        element("span", { role: "status" }, `${rows.length} ` +
          `${rows.length === 1 ? "trial" : "trials"}, page ${page + 1} of ${pages}`),
        turn(page + 1, "Next")),
    ];
  }

  // The table of a view, where the reader left it.
  function draw(view) {
    const { fill } = window.autosearch.parts;
    const focused = document.activeElement && document.activeElement.dataset.column;
    const scrolled = view.at.table.querySelector(".scroll");
    const left = scrolled ? scrolled.scrollLeft : 0;
    fill(view.at.table, table(view.studies, view.state, (changes) => view.change(changes),
      (study, i, event) => view.pick(study, i, event)));
    view.at.table.querySelector(".scroll").scrollLeft = left;
    const again = [...view.at.table.querySelectorAll("[data-column]")]
      .find((one) => one.dataset.column === focused);
    if (again) again.focus();
  }

  window.autosearch = Object.assign(window.autosearch || {}, { table: draw });
  window.autosearch.parts = Object.assign(window.autosearch.parts || {}, { table });
})();
