// The page's fixed parts: sections, captions and controls, which the view then fills.
(() => {
  "use strict";

  // Builds everything below `root`, with controls that call the view. Returns the parts to fill.
  function frame(root, view, steps) {
    const { element } = window.autosearch.parts;
    const at = {};
    const make = (name, tag, attributes, ...children) =>
      (at[name] = element(tag, attributes, ...children));
    const chart = (name, label) => make(name, "div", { class: `chart ${name}`, role: "img",
      "aria-label": label });
    const labelled = (text, input) => element("label", {}, text, input);
    const axis = (name) => labelled(`${name.toUpperCase()} axis `, make(`${name}Axis`, "select",
      { onchange: (event) => view.change({ [name]: event.target.value,
        budget: steps }) }));
    const log = (name, key) => element("label", { class: "check" }, make(key, "input", { type:
      "checkbox", onchange: (event) => view.change({ [key]: event.target.checked }) }),
    ` ${name} logarithmic`);
    const section = (title, caption, ...content) => element("section", { class: "card" },
      element("h2", {}, title), caption ? element("p", { class: "muted" }, caption) : null,
      ...content);

    at.second = window.autosearch.compare.control((study, number) =>
      view.compareWith(study, number), () => view.keep());

    root.classList.add("autosearch");
    root.replaceChildren(
      make("headers", "div", {}),
      element("div", { class: "choose" },
        element("section", { class: "card" },
          make("title", "h2", {}),
          make("meaning", "p", { class: "muted" }),
          element("p", { class: "muted" }, "Each point is a trial: one configuration, measured " +
            "on the validation split. The line joins the Pareto front, the trials that no " +
            "other one beats in both figures. ", element("span", { class: "hint" }, "Click a " +
            "point for its details; arrow keys walk along the front. "),
          make("signs", "span", {}), " ", element("button", { type: "button", class: "hint keys-button",
            onclick: () => view.showKeys() }, "Keys (?)")),
          make("recommended", "div", { class: "recommended" }),
          element("div", { class: "controls" }, axis("x"), axis("y"), log("X", "logX"),
            log("Y", "logY")),
          at.scatter = element("div", { class: "chart scatter", tabindex: "0", role:
            "application", "aria-label": "Trials by the two chosen figures; arrow keys select " +
            "trials of the front", onkeydown: (event) => view.step(event) }),
          make("kept", "p", { class: "kept", role: "status" }),
          make("lostPart", "div", {},
            element("p", { class: "muted" }, "Trials without a result, by number:"),
            chart("lost", "Failed, infeasible and pruned trials by number")),
          make("budgetPart", "div", { class: "budget" },
            element("label", { for: "autosearch-budget" }, "Budget"),
            make("slider", "input", { type: "range", id: "autosearch-budget", min: 0,
              max: steps, value: steps,
              oninput: (event) => view.spend(Number(event.target.value)) }),
            make("advice", "p", { "aria-live": "polite" }))),
        make("details", "aside", { class: "card details", "aria-label": "Selected trial" })),
      make("comparisonCard", "section", { class: "card comparison" },
        element("h2", {}, "Side by side"),
        element("p", { class: "muted" }, "The selected trial beside another: in what they differ, " +
          "and their maps at the same images. ", element("span", { class: "hint" }, "Name it " +
          "here, click it with Shift, or keep the selected one (key c) and go on to others.")),
        at.second.form,
        make("comparison", "div", {})),
      element("div", { class: "pair" },
        section("Progress", "Hypervolume after each trial: the share that the front dominates " +
          "of the box from a little below the worst to the best values seen. A flat end means that " +
          "more trials found nothing better.", chart("progress", "Hypervolume over trials")),
        section("What matters", null, make("importanceCaption", "p", { class: "muted" }),
          chart("importance", "Importance of parameters"))),
      section("Configurations", null, make("parallelCaption", "p", { class: "muted" }),
        element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label":
          "Parallel coordinates" }, chart("parallel", "Parallel coordinates"))),
      section("All trials", element("span", { class: "hint" }, "Click a heading to sort, a row " +
        "for details. The filter takes words that must all hold: a status, part of a reason, " +
        "front, or a comparison such as gflops<=0.31, parameters<2e6, width=1.2."),
      element("div", { class: "controls" },
        labelled("Filter ", make("filter", "input", { type: "search", placeholder:
          "front gflops<=0.31", oninput: (event) => view.sift(event.target.value) })),
        element("label", { class: "check" }, make("withParameters", "input", { type: "checkbox",
          onchange: (event) => view.change({ withParameters: event.target.checked }) }),
        " parameters")),
      make("table", "div", {})),
      make("footer", "p", { class: "muted" }),
      make("tooltip", "div", { class: "tooltip", role: "tooltip", hidden: true }));
    return at;
  }

  // Fills what stands above the charts and in their controls.
  function caption(view) {
    const { fill, header, signs, warnings, element } = window.autosearch.parts;
    const { axes, described } = window.autosearch.data;
    const several = view.studies.length > 1;
    const open = [...view.at.headers.querySelectorAll("details[open]")]
      .map((one) => one.dataset.study);
    fill(view.at.headers, several ? element("h2", {}, `${view.studies.length} studies`) : null,
      warnings(view.studies), element("div", { class: "heads" }, view.studies.length
        ? view.studies.map((study) => header(study, several, open.includes(study.name)))
        : "No study is chosen."));
    for (const axis of ["x", "y"]) {
      const names = axes(view.studies);
      const input = view.at[`${axis}Axis`];
      if (names.join() !== [...input.options].map((one) => one.value).join()) {
        fill(input, names.map((name) => element("option", { value: name }, name)));
      }
      input.value = view.state[axis];
    }
    view.at.title.textContent = `${view.state.y} against ${view.state.x}`;
    view.at.meaning.textContent = [view.state.y, view.state.x]
      .map((name) => [name, described(view.studies, name).help]).filter(([, help]) => help)
      .map((both) => both.join(": ")).join("; ");
    view.at.signs.textContent = several ? signs(view.comparison) : "";
    view.at.footer.textContent = `Put together ${view.generated} by autosearch.`;
  }

  window.autosearch = Object.assign(window.autosearch || {}, { caption, frame });
})();
