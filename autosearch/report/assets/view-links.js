// What is looked at, in the address behind the #: it can be sent to others, outlives a reload, and
// the browser's back button leads to what was looked at before.
(() => {
  "use strict";

  const WAIT = 200;
  const LONGEST = 500;
  let waiting = null;

  const read = () => new URLSearchParams(window.location.hash.slice(1));

  // Writes some keys, null for none; all others stay. `step` makes it a step to go back from.
  function write(changes, step) {
    const asked = read();
    for (const [key, value] of Object.entries(changes)) {
      asked.delete(key);
      for (const one of [value].flat()) if (one !== null) asked.append(key, one);
    }
    clearTimeout(waiting);
    const text = asked.toString();
    if (text === read().toString()) return;
    const go = () => window.history[step ? "pushState" : "replaceState"](null, "",
      `#${text}`);
    // A slider that is moved, or a word that is typed, is many small changes.
    if (step) go();
    else waiting = setTimeout(go, WAIT);
  }

  // Calls back where the address was changed by the browser, or by hand.
  const follow = (changed) => window.addEventListener("hashchange", () => {
    clearTimeout(waiting);
    changed();
  });

  const told = (one, several) => one && (several && one.study !== null
    ? `${one.number}@${one.study}` : String(one.number));

  function trial(text) {
    const [, number, study] = (text || "").match(/^(\d{1,9})(?:@(.*))?$/s) || [];
    return number === undefined ? null : { study: study ?? null, number: Number(number) };
  }

  // What the address is to say of a view's state; null for what is as usual.
  function of(view, usual) {
    const { state, chosen } = view;
    const several = view.studies.length > 1;
    const flag = (value) => (value === undefined ? null : value ? "1" : "0");
    const { column, down } = state.sort;
    return {
      x: chosen.x, y: chosen.y, logx: flag(chosen.logX), logy: state.logY ? "1" : null,
      budget: state.budget === usual.budget ? null : String(state.budget),
      trial: state.chosen ? told(state.selected, several) : null,
      with: told(state.compared, several),
      filter: state.filter || null,
      sort: column === usual.sort.column && down === usual.sort.down ? null
        : `${down ? "-" : ""}${column}`,
      page: state.page ? String(state.page + 1) : null,
      parameters: state.withParameters ? "1" : null,
      keys: state.keys ? null : "off",
    };
  }

  // Puts what the address says into a view's state, the usual where it says nothing.
  function apply(view, usual) {
    const asked = read();
    const whole = (key, least, most, other) => {
      const number = Number(asked.get(key) ?? NaN);
      return Number.isInteger(number) && number >= least && number <= most ? number : other;
    };
    const sort = asked.get("sort");
    const selected = trial(asked.get("trial"));
    Object.assign(view.state, {
      logY: asked.get("logy") === "1",
      budget: whole("budget", 0, usual.budget, usual.budget),
      selected, chosen: selected !== null, compared: trial(asked.get("with")),
      filter: (asked.get("filter") || "").slice(0, LONGEST),
      sort: sort ? { column: sort.replace(/^-/, ""), down: sort.startsWith("-") } : usual.sort,
      page: whole("page", 1, 1e6, 1) - 1,
      withParameters: asked.get("parameters") === "1",
      keys: asked.get("keys") !== "off",
    });
    view.chosen = { x: asked.get("x"), y: asked.get("y") };
    if (asked.has("logx")) view.chosen.logX = asked.get("logx") === "1";
  }

  window.autosearch = Object.assign(window.autosearch || {}, {
    links: { apply, follow, of, read, write },
  });
})();
