// The view of one or several studies, alike in the report and in the dashboard.
//
//   autosearch.mount(root, data, options)  draws into an element, once
//   autosearch.update(data)                draws newer data; zoom, axes, slider, selection and the
//                                          table's order and filter stay as they are
//
// data: what `autosearch.report.info.view_data` returns. Without `comparison` studies are drawn
// beside each other only.
// options.artifact(study, number, file): `study` is the name in the data, `file` one of
//   "maps.jpg", "locations.jpg"  returns an address for <img>, null where it cannot be shown
//   "curves.json"                what `autosearch.report.curves` made of it, null, or a promise
//   "traceback.txt"              the text itself, null, or a promise of either
// It is asked only for files that the data lists. Needs window.Plotly and the other view-*.js.
(() => {
  "use strict";

  const CONFIG = { responsive: true, displaylogo: false, displayModeBar: false };
  const ZOOMABLE = { ...CONFIG, displayModeBar: true,
    modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]] };
  const SLIDER_STEPS = 1000;
  const AXIS_PIXELS = 58;
  const NARROW = 600;
  const FILTER_DELAY = 150;

  class View {
    constructor(root, data, options) {
      this.root = root;
      this.options = options;
      this.state = { x: null, y: null, logX: false, logY: false, budget: SLIDER_STEPS,
        selected: null, chosen: false, sort: { column: "trial", down: false }, filter: "", page: 0,
        withParameters: false, printing: false };
      this.chosen = { x: null, y: null };
      this.curves = [];
      this.dirty = new Set();
      this.at = window.autosearch.frame(root, this, SLIDER_STEPS);
      this.watch();
      this.update(data);
      window.autosearch.print.prepare(root, this);
    }

    // Charts further down are drawn when they come into sight, so that thousands of trials do not
    // hold up the first one.
    watch() {
      const draw = { lost: () => this.drawLost(), progress: () => this.drawProgress(),
        importance: () => this.drawImportance(), parallel: () => this.drawParallel(),
        table: () => this.drawTable() };
      this.drawn = (name) => {
        this.dirty.delete(name);
        draw[name]();
      };
      this.near = new Set();
      const observer = new IntersectionObserver((entries) => {
        for (const { target, isIntersecting } of entries) {
          const name = Object.keys(draw).find((one) => this.at[one] === target);
          if (isIntersecting) this.near.add(name);
          else this.near.delete(name);
          if (isIntersecting && this.dirty.has(name)) this.drawn(name);
        }
      }, { rootMargin: "300px" });
      for (const name of Object.keys(draw)) observer.observe(this.at[name]);
      window.matchMedia("(prefers-color-scheme: dark)")
        .addEventListener("change", () => this.draw());
    }

    // What is out of sight, too.
    drawAll() {
      this.draw();
      for (const name of [...this.dirty]) this.drawn(name);
    }

    later(...names) {
      for (const name of names) {
        this.dirty.add(name);
        if (this.near.has(name)) this.drawn(name);
      }
    }

    update(data) {
      this.studies = data.studies;
      this.comparison = data.comparison || [];
      this.settleAxes();
      this.generated = data.generated;
      this.draw();
    }

    // Axes that were chosen, or the usual ones where the studies shown do not have them.
    settleAxes() {
      const { axes, defaultAxes, wide } = window.autosearch.data;
      const [names, usual] = [axes(this.studies), defaultAxes(this.studies)];
      for (const axis of ["x", "y"]) {
        const wanted = this.chosen[axis];
        this.state[axis] = names.includes(wanted) ? wanted : usual[axis];
      }
      this.state.logX = this.at.logX.checked = this.chosen.logX ?? wide(this.studies, this.state.x);
    }

    change(changes) {
      Object.assign(this.state, changes);
      for (const one of ["x", "y", "logX"]) if (one in changes) this.chosen[one] = changes[one];
      if ("x" in changes) this.settleAxes();
      const table = ["sort", "page", "withParameters", "filter"];
      if (Object.keys(changes).every((key) => table.includes(key))) this.drawTable();
      else this.draw();
    }

    get directions() {
      const { described } = window.autosearch.data;
      return { x: described(this.studies, this.state.x).direction,
        y: described(this.studies, this.state.y).direction };
    }

    find(name) {
      return this.studies.find((study) => study.name === name);
    }

    // The selected trial as a study and an index, if it is there.
    get selected() {
      const { selected } = this.state;
      const study = selected && this.find(selected.study);
      const i = study ? window.autosearch.data.indexOf(study, selected.number) : -1;
      return i < 0 ? null : { study, i };
    }

    draw() {
      const { fill, header, signs, warnings, element } = window.autosearch.parts;
      const { axes, described } = window.autosearch.data;
      const several = this.studies.length > 1;
      this.look = window.autosearch.charts.theme(this.root);
      const open = [...this.at.headers.querySelectorAll("details[open]")]
        .map((one) => one.dataset.study);
      fill(this.at.headers, several ? element("h2", {}, `${this.studies.length} studies`) : null,
        warnings(this.studies), element("div", { class: "heads" }, this.studies.length
          ? this.studies.map((study) => header(study, several, open.includes(study.name)))
          : "No study is chosen."));
      for (const axis of ["x", "y"]) {
        const names = axes(this.studies);
        const input = this.at[`${axis}Axis`];
        if (names.join() !== [...input.options].map((one) => one.value).join()) {
          fill(input, names.map((name) => element("option", { value: name }, name)));
        }
        input.value = this.state[axis];
      }
      this.at.title.textContent = `${this.state.y} against ${this.state.x}`;
      this.at.meaning.textContent = [this.state.y, this.state.x]
        .map((name) => [name, described(this.studies, name).help]).filter(([, help]) => help)
        .map((both) => both.join(": ")).join("; ");
      this.at.signs.textContent = several ? signs(this.comparison) : "";
      this.at.footer.textContent = `Put together ${this.generated} by autosearch.`;
      this.advise();
      // Until somebody chooses, the recommended trial is shown, also as better ones arrive.
      if (!this.state.chosen && this.advised) {
        const { study, i } = this.advised;
        this.state.selected = { study: study.name, number: study.trials.number[i] };
      }
      this.drawScatter();
      this.at.lostPart.hidden = !this.studies.some(({ counts }) =>
        counts.failed + counts.infeasible + counts.pruned);
      this.drawDetails();
      this.drawCurves();
      this.later("lost", "progress", "importance", "parallel", "table");
    }

    react(place, traces, layout, config) {
      // Plotly takes the height from here when the window is resized.
      if (layout.height) place.style.height = `${layout.height}px`;
      const width = window.autosearch.print.width(this.root, place);
      window.Plotly.react(place, traces, width ? { width, ...layout } : layout, config);
    }

    plot(name, { traces, layout }, config = CONFIG) {
      this.react(this.at[name], traces, layout, config);
      this.listen(name);
    }

    listen(name) {
      const chart = this.at[name];
      if (chart.dataset.listening) return;
      chart.dataset.listening = "yes";
      const hit = (event) => {
        const point = event.points.find((one) => one.customdata !== undefined &&
          one.customdata !== null);
        const study = point && this.find(point.data.meta);
        return study ? { study, i: point.customdata } : null;
      };
      chart.on("plotly_click", (event) => {
        const found = hit(event);
        this.at.tooltip.hidden = true;
        if (found) this.select(found.study, found.i);
      });
      chart.on("plotly_hover", (event) => this.hint(hit(event), event.event));
      chart.on("plotly_unhover", () => { this.at.tooltip.hidden = true; });
    }

    drawScatter() {
      const chart = window.autosearch.charts.scatter(this.studies, this.comparison, this.state,
        this.look);
      chart.layout.shapes = this.marks();
      this.plot("scatter", chart, this.root.clientWidth < NARROW ? CONFIG : ZOOMABLE);
    }

    drawLost() {
      const chart = window.autosearch.charts.lost(this.studies, this.look);
      if (chart) this.plot("lost", chart);
    }

    drawProgress() {
      this.plot("progress", window.autosearch.charts.hypervolume(this.studies, this.comparison,
        this.look));
    }

    get current() {
      return this.selected ? this.selected.study : this.studies[0];
    }

    whose() {
      return this.studies.length > 1 ? ` Shown: ${this.current.name}.` : "";
    }

    drawImportance() {
      const study = this.current;
      const chart = study && window.autosearch.charts.importance(study, this.look);
      this.at.importance.hidden = !chart;
      this.at.importanceCaption.textContent = chart
        ? "How much each parameter tells the best tenth of the trials from the rest, by " +
          `objective (PED-ANOVA).${this.whose()}`
        : "Known once there are ten complete trials that differ.";
      if (chart) this.plot("importance", chart);
    }

    drawParallel() {
      const study = this.current;
      this.at.parallel.hidden = !study;
      if (!study) return;
      const mine = this.selected ? this.selected.i : null;
      const chart = window.autosearch.charts.parallel(study, this.state, mine, this.look);
      this.at.parallelCaption.textContent = "A line is a trial, an axis a parameter or a figure. " +
        `The front stands out; of the others up to 300, the stronger the blue, the better their ` +
        `${this.state.y}. –: the trial does not have the parameter.${this.whose()}`;
      const width = this.at.parallel.parentElement.clientWidth;
      chart.layout.width = Math.max(width, AXIS_PIXELS * chart.count);
      // Paper cannot be scrolled.
      this.at.parallel.style.zoom = this.state.printing ? width / chart.layout.width : "";
      this.plot("parallel", chart, { ...CONFIG, responsive: false });
    }

    drawTable() {
      const { fill, table } = window.autosearch.parts;
      const focused = document.activeElement && document.activeElement.dataset.column;
      const scrolled = this.at.table.querySelector(".scroll");
      const left = scrolled ? scrolled.scrollLeft : 0;
      fill(this.at.table, table(this.studies, this.state, (changes) => this.change(changes),
        (study, i) => this.select(study, i)));
      this.at.table.querySelector(".scroll").scrollLeft = left;
      const again = [...this.at.table.querySelectorAll("[data-column]")]
        .find((one) => one.dataset.column === focused);
      if (again) again.focus();
    }

    drawDetails() {
      const { fill, details, element } = window.autosearch.parts;
      const { selected } = this;
      if (!selected) {
        this.shown = null;
        this.forgetCurves();
        fill(this.at.details, element("p", { class: "muted" }, "Click a point or a row of the " +
          "table to see a trial."));
        return;
      }
      const { study, i } = selected;
      const about = study.trials.number[i];
      // Newer data seldom changes the trial that is looked at, and it keeps its place if not.
      const shown = JSON.stringify([study.name, about, study.trials.status[i],
        study.front.includes(about), study.tests[about], this.studies.length > 1]);
      if (shown === this.shown) return;
      this.shown = shown;
      this.at.details.scrollTop = 0;
      const number = (n) => this.select(study, window.autosearch.data.indexOf(study, n));
      this.forgetCurves();
      fill(this.at.details, details(study, i, this.studies.length > 1, this.options, number,
        (curves) => {
          this.curves = curves;
          this.drawCurves();
        }));
    }

    drawCurves() {
      for (const { place, panel, curves } of this.curves) {
        const { traces, layout } = window.autosearch.charts.curve(curves, panel, this.look,
          place.clientWidth);
        this.react(place, traces, layout, CONFIG);
      }
    }

    // Charts listen for changes of the window's size until they are told to stop.
    forgetCurves() {
      for (const { place } of this.curves) window.Plotly.purge(place);
      this.curves = [];
    }

    select(study, i) {
      this.state.chosen = true;
      this.state.selected = { study: study.name, number: study.trials.number[i] };
      this.drawDetails();
      this.mark();
      this.later("parallel", "importance");
      for (const row of this.at.table.querySelectorAll("tr.chosen")) row.classList.remove("chosen");
      this.later("table");
      if (window.matchMedia("(max-width: 900px)").matches) this.at.details.scrollIntoView();
    }

    step(event) {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const study = this.current;
      if (!by || !study) return;
      event.preventDefault();
      const front = window.autosearch.data.outstanding(study, this.state.x, this.state.y,
        this.directions);
      const at = this.selected ? front.indexOf(this.selected.i) : -1;
      const next = front[Math.min(front.length - 1, Math.max(0, at + by))];
      if (next !== undefined) this.select(study, next);
    }

    // What the slider's place is worth in the unit of the x axis.
    limit() {
      const range = window.autosearch.data.range(this.studies, this.state.x);
      if (!range) return null;
      const share = this.state.budget / SLIDER_STEPS;
      const [from, to] = this.directions.x === "maximize" ? [range[1], range[0]] : range;
      if (share === 1) return to;
      return this.state.logX && range[0] > 0 ? from * (to / from) ** share
        : from + share * (to - from);
    }

    spend(place) {
      this.state.budget = place;
      this.advise();
      this.mark();
    }

    advise() {
      const { data, parts } = window.autosearch;
      const { x, y } = this.state;
      const { directions } = this;
      const bound = this.limit();
      const test = [x, y].some((name) => name.startsWith(data.TEST));
      const possible = !test && directions.x && directions.y && bound !== null;
      this.advised = possible ? data.recommend(this.studies, x, y, directions, bound) : null;
      this.bound = possible ? bound : null;
      this.at.slider.disabled = !possible;
      this.at.slider.value = this.state.budget;
      if (!this.advised) {
        parts.fill(this.at.advice, test ? "A trial is chosen by its validation figures; test " +
          "figures are for reporting it." : "No trial to recommend yet.");
        return;
      }
      const limit = data.withUnit(this.bound, data.described(this.studies, x).unit);
      this.at.slider.setAttribute("aria-valuetext", limit);
      parts.fill(this.at.advice, parts.advice(this.studies, this.state, this.advised,
        `${directions.x === "minimize" ? "up to" : "from"} ${limit}`,
        ({ study, i }) => this.select(study, i)));
    }

    marks() {
      const { figure } = window.autosearch.data;
      const ring = ({ study, i }, size, colour) => ({ size, colour,
        x: figure(study, this.state.x, i), y: figure(study, this.state.y, i) });
      const rings = [];
      if (this.advised) rings.push(ring(this.advised, 11, this.look.chosen));
      if (this.selected) rings.push(ring(this.selected, 8, this.look.text));
      const placed = rings.filter((one) => one.x !== null && one.y !== null);
      return window.autosearch.charts.marks(this.state, this.bound, placed, this.look);
    }

    mark() {
      window.Plotly.relayout(this.at.scatter, { shapes: this.marks() });
    }

    sift(text) {
      clearTimeout(this.waiting);
      this.waiting = setTimeout(() => this.change({ filter: text, page: 0 }), FILTER_DELAY);
    }

    hint(found, event) {
      if (!found) return;
      const { tooltip } = this.at;
      window.autosearch.parts.fill(tooltip, window.autosearch.parts.hoverText(found.study,
        found.i, this.state, this.studies.length > 1));
      window.autosearch.parts.showAt(tooltip, event);
    }
  }

  let view = null;
  window.autosearch = Object.assign(window.autosearch || {}, {
    mount(root, data, options) {
      view = new View(root, data, options);
    },
    update(data) {
      view.update(data);
    },
  });
})();
