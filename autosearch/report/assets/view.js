// The view of one or several studies, alike in the report and in the dashboard.
//
//   autosearch.mount(root, data, options)  draws into an element, once
//   autosearch.update(data)                draws newer data; zoom, axes, slider, selection and the
//                                          table's order and filter stay as they are
//
// What is looked at stands in the address, too; see view-links.js.
//
// data: what `autosearch.report.info.view_data` returns. Without `comparison` studies are drawn
// beside each other only.
// options.artifact(study, number, file): `study` is the name in the data, `file` one of
//   "maps.jpg", "locations.jpg"  returns an address for <img>, null where it cannot be shown
//   "curves.json"                what `autosearch.report.curves` made of it, null, or a promise
//   "traceback.txt"              the text itself, null, or a promise of either
// It is asked only for files that the data lists.
// options.galleries(study, number), where there is one: galleries of a trial, each with a name and
//   an address.
// options.note, where there is one: see view-notes.js.
// Needs window.Plotly and the other view-*.js.
(() => {
  "use strict";

  const CONFIG = { responsive: true, displaylogo: false, displayModeBar: false };
  const ZOOMABLE = { ...CONFIG, displayModeBar: true,
    modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]] };
  const NARROW = 600;
  const FILTER_DELAY = 150;
  const USUAL = { sort: { column: "trial", down: false } };
  // Changes that are a step to go back from.
  const STEPS = ["x", "y", "logX", "logY", "sort", "page", "withParameters"];

  class View {
    constructor(root, data, options) {
      this.root = root;
      this.options = options;
      const { STEPS: full } = window.autosearch.budget;
      this.usual = { ...USUAL, budget: full };
      this.state = { x: null, y: null, logX: false, printing: false };
      this.config = CONFIG;
      this.curves = [];
      this.dirty = new Set();
      this.at = window.autosearch.frame(root, this, full);
      this.showKeys = window.autosearch.keys.prepare(root, this.state, this.acts(),
        () => this.link(false));
      this.watch();
      this.restore();
      this.update(data);
      window.autosearch.links.follow(() => {
        this.restore();
        this.settleAxes();
        this.draw();
      });
      window.autosearch.print.prepare(root, this);
    }

    // Charts further down are drawn when they come into sight, so that thousands of trials do not
    // hold up the first one.
    watch() {
      const draw = { lost: () => this.drawLost(), progress: () => this.drawProgress(),
        importance: () => window.autosearch.space.importance(this),
        parallel: () => window.autosearch.space.parallel(this),
        table: () => window.autosearch.table(this) };
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

    // What the address says is looked at.
    restore() {
      window.autosearch.links.apply(this, this.usual);
      this.at.filter.value = this.state.filter;
      this.at.logY.checked = this.state.logY;
      this.at.withParameters.checked = this.state.withParameters;
    }

    link(step) {
      const { of, write } = window.autosearch.links;
      write(of(this, this.usual), step);
    }

    acts() {
      return {
        r: () => {
          const found = window.autosearch.recommended.first(this.studies) || this.advised;
          if (found) this.select(found.study, found.i);
        },
        c: () => (this.state.compared ? this.compare(null) : this.keep()),
        n: () => {
          const field = this.at.details.querySelector("textarea");
          if (field) field.focus();
        },
        "/": () => this.at.filter.focus(),
      };
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
      if (Object.keys(changes).every((key) => table.includes(key))) window.autosearch.table(this);
      else this.draw();
      this.link(Object.keys(changes).some((key) => STEPS.includes(key)));
    }

    get directions() {
      const { described } = window.autosearch.data;
      return { x: described(this.studies, this.state.x).direction,
        y: described(this.studies, this.state.y).direction };
    }

    find(name) {
      return this.studies.find((study) => study.name === name);
    }

    // A trial as a study and an index, if it is there; one without a name is of the first study.
    lookUp(trial) {
      const study = trial && (trial.study === null ? this.studies[0] : this.find(trial.study));
      const i = study ? window.autosearch.data.indexOf(study, trial.number) : -1;
      return i < 0 ? null : { study, i };
    }

    get selected() {
      return this.lookUp(this.state.selected);
    }

    get compared() {
      return this.lookUp(this.state.compared);
    }

    draw() {
      this.look = window.autosearch.charts.theme(this.root);
      window.autosearch.caption(this);
      window.autosearch.budget.advise(this);
      const { parts, recommended } = window.autosearch;
      parts.fill(this.at.recommended, recommended.lines(this.studies, (study, i) =>
        this.select(study, i)));
      // Until somebody chooses, the recommended trial is shown, also as better ones arrive.
      const first = this.state.budget === this.usual.budget && recommended.first(this.studies) ||
        this.advised;
      if (!this.state.chosen && first) {
        const { study, i } = first;
        this.state.selected = { study: study.name, number: study.trials.number[i] };
      }
      this.drawScatter();
      this.at.lostPart.hidden = !this.studies.some(({ counts }) =>
        counts.failed + counts.infeasible + counts.pruned);
      this.drawDetails();
      this.drawCurves();
      this.drawComparison();
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
        if (found) this.pick(found.study, found.i, event.event);
      });
      chart.on("plotly_hover", (event) => this.hint(hit(event), event.event));
      chart.on("plotly_unhover", () => { this.at.tooltip.hidden = true; });
    }

    drawScatter() {
      const chart = window.autosearch.charts.scatter(this.studies, this.comparison, this.state,
        this.look);
      chart.layout.shapes = window.autosearch.marks(this);
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

    drawDetails() {
      const { fill, details, element } = window.autosearch.parts;
      const { selected } = this;
      if (!selected) {
        this.shown = null;
        this.forgetCurves();
        const asked = this.state.chosen && this.state.selected;
        fill(this.at.details, element("p", { class: "muted" }, asked && this.studies.length
          ? `There is no trial ${asked.number}${asked.study ? ` of ${asked.study}` : ""} here.`
          : "Click a point or a row of the table to see a trial."));
        return;
      }
      const { study, i } = selected;
      const about = study.trials.number[i];
      // Newer data seldom changes the trial that is looked at, and it keeps its place if not.
      const stand = () => JSON.stringify([study.name, about, study.trials.status[i],
        study.front.includes(about), study.tests[about], study.notes?.[about], study.recommended,
        this.studies.length > 1]);
      const shown = stand();
      if (shown === this.shown) return;
      this.shown = shown;
      this.at.details.scrollTop = 0;
      const number = (n) => this.select(study, window.autosearch.data.indexOf(study, n));
      this.forgetCurves();
      fill(this.at.details, details(study, i, this.studies.length > 1, this.options, number,
        (curves) => {
          this.curves = curves;
          this.drawCurves();
        }, window.autosearch.notes.block(study, about, this.options, () => {
          this.shown = this.shown === shown ? stand() : this.shown;
          this.later("table");
        })));
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

    // A click on a point or a row; with Shift it is the second trial of a comparison.
    pick(study, i, event) {
      if (!event || !event.shiftKey) {
        this.select(study, i);
        return;
      }
      this.compare({ study: study.name, number: study.trials.number[i] });
      this.at.comparisonCard.scrollIntoView({ block: "nearest" });
    }

    // Sets a trial aside to compare the selected one with, or none.
    compare(trial) {
      this.state.compared = trial;
      this.state.chosen ||= Boolean(trial && this.state.selected);
      this.drawComparison();
      this.mark();
      this.later("table");
      this.link(true);
    }

    keep() {
      const { selected } = this;
      if (selected) {
        this.compare({ study: selected.study.name,
          number: selected.study.trials.number[selected.i] });
      }
    }

    // The trial of a number to compare with, and whether there is one.
    compareWith(name, number) {
      const trial = { study: name, number };
      if (!this.lookUp(trial)) return false;
      this.compare(trial);
      return true;
    }

    drawComparison() {
      this.at.second.offer(this.studies.map((study) => study.name));
      window.autosearch.compare.draw(this);
    }

    select(study, i, step = true) {
      this.state.chosen = true;
      this.state.selected = { study: study.name, number: study.trials.number[i] };
      this.link(step);
      this.drawDetails();
      this.drawComparison();
      this.mark();
      this.later("parallel", "importance");
      for (const row of this.at.table.querySelectorAll("tr.chosen")) row.classList.remove("chosen");
      this.later("table");
      if (window.matchMedia("(max-width: 900px)").matches) this.at.details.scrollIntoView();
    }

    step(event) {
      const by = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
      const study = this.current;
      if (!by || !study) return;
      event.preventDefault();
      const front = window.autosearch.data.outstanding(study, this.state.x, this.state.y,
        this.directions);
      const at = this.selected ? front.indexOf(this.selected.i) : -1;
      const next = front[Math.min(front.length - 1, Math.max(0, at + by))];
      if (next !== undefined) this.select(study, next, false);
    }

    spend(place) {
      this.state.budget = place;
      window.autosearch.budget.advise(this);
      this.mark();
      this.link(false);
    }

    mark() {
      window.Plotly.relayout(this.at.scatter, { shapes: window.autosearch.marks(this) });
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
