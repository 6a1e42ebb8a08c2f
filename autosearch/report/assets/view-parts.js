// Pieces of the page other than charts. Whatever comes from a study is put in as text, never as
// markup.
(() => {
  "use strict";

  const of = () => window.autosearch.data;
  const CURVES = "curves.json";

  // element("p", {class: "note", onclick: f}, "text", otherElement, null)
  function element(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children.flat(Infinity).filter((child) => child !== null &&
      child !== undefined));
    return made;
  }

  function fill(parent, ...children) {
    parent.replaceChildren(...children.flat(Infinity).filter((child) => child !== null));
  }

  const pairs = (rows) => element("dl", { class: "pairs" }, rows.map(([name, value, help]) => [
    element("dt", { title: help || null }, name), element("dd", {}, value)]));

  const percent = (part, whole) => `${((100 * part) / whole).toFixed(0)} %`;

  // What must not be overlooked: each warning once, with the studies it is about.
  function warnings(studies) {
    const about = new Map();
    for (const study of studies) {
      for (const text of study.warnings) about.set(text, [...(about.get(text) || []), study.name]);
    }
    return [...about].map(([text, names]) => element("p", { class: "warning", role: "note" },
      names.length < studies.length ? `${names.join(", ")}: ${text}` : text));
  }

  // Name, progress, and what stands behind the figures.
  function header(study, several, open) {
    const finished = study.trials.number.length - study.counts.running;
    const told = Object.entries(study.counts).filter(([, n]) => n)
      .map(([name, n]) => `${n} ${name}`).join(", ");
    return element("section", { class: "study-head" },
      element(several ? "h3" : "h2", {}, study.name),
      element("p", { class: "muted" },
        `${finished} of ${study.budget} trials (${percent(finished, study.budget)}): ` +
        `${told || "none yet"}. ${study.front.length} on the Pareto front.`),
      element("details", { "data-study": study.name, open },
        element("summary", {}, "Data, weights, metrics and versions"),
        pairs(study.header)));
  }

  // All that is known of a point, made when it is pointed at.
  function hoverText(study, i, state, several) {
    const number = study.trials.number[i];
    const rows = [];
    const chosen = [state.x, state.y];
    const first = chosen.every((name) => study.compared.includes(name)) ? study.compared : chosen;
    const figures = [...first, ...Object.keys(study.trials.figures)];
    for (const name of new Set(figures)) {
      const value = of().figure(study, name, i);
      if (value !== null) {
        rows.push([name, of().withUnit(value, of().described([study], name).unit)]);
      }
    }
    return [
      element("strong", {}, several ? `${study.name}, trial ${number}` : `Trial ${number}`),
      element("span", { class: `status ${of().status(study, i)}` }, of().status(study, i)),
      study.reasons[number] ? element("p", {}, study.reasons[number]) : null,
      window.autosearch.notes.short(study, number),
      pairs(rows),
      pairs(settings(of().parameters(study, i))),
    ].filter(Boolean);
  }

  // A value, and whether it is a default that the space does not name.
  const setting = ({ value, usual }) => usual
    ? element("span", { class: "usual" }, `${of().format(value)} `, element("i", {}, "default"))
    : of().format(value);
  const settings = (entries) => entries.map(([name, one]) => [name, setting(one)]);

  function stages(study, i) {
    const found = of().architecture(study, i);
    if (!found.rows.length && !found.whole.length) {
      return pairs(settings(of().parameters(study, i)));
    }
    const cell = (row, head) => row.has(head) ? setting(row.get(head)) : "–";
    const unused = (row) => ![...row.values()].some(({ value }) => of().isOn(value));
    return element("div", {},
      found.rows.length ? element("div", { class: "scroll", tabindex: "0", role: "region",
        "aria-label": "Configuration by stage" }, element("table", { class: "plain" },
        element("thead", {}, element("tr", {}, element("th", { scope: "col" }, ""),
          found.heads.map((head) => element("th", { scope: "col" }, head)))),
        element("tbody", {}, found.rows.map(([name, row]) =>
          element("tr", { class: unused(row) ? "unused" : null },
            element("th", { scope: "row" }, name),
            found.heads.map((head) => element("td", {}, cell(row, head)))))))) : null,
      found.whole.length ? pairs(settings(found.whole)) : null);
  }

  function copyable(text) {
    const button = element("button", { type: "button", class: "copy", "aria-label":
      `Copy: ${text}`, onclick: async () => {
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
      } catch {
        // Not every browser lets a page from a file at the clipboard; the text can be marked.
        window.getSelection().selectAllChildren(code);
        button.textContent = "Marked";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    } }, "Copy");
    const code = element("code", {}, text);
    return element("div", { class: "command" }, code, button);
  }

  const PICTURES = {
    "maps.jpg": { title: "Anomaly maps", shown: "Validation images", caption: "Validation " +
      "images, one of each anomaly type. Left the image, middle with the ground truth outlined, " +
      "right the anomaly map: the paler, the more anomalous." },
    "locations.jpg": { title: "Where defects are pasted", shown: "Places of defects",
      caption: "Left a training image, then where the training would paste defects on it after " +
      "ever more epochs: the paler, the likelier." },
  };

  const onDisk = (study, number, file, why) => element("p", { class: "muted" }, `${why} On disk: `,
    element("code", {}, `${study.folder}/trials/${number}/${file}`));

  // A picture, curves or text of a trial, put in as soon as they are there.
  function picture(options, study, number, file) {
    const address = options.artifact(study.name, number, file);
    if (!address) {
      return onDisk(study, number, file, "Not in this page, which holds pictures of recommended " +
        "trials and of the front as far as there is room.");
    }
    return element("figure", {},
      element("img", { src: address, loading: "lazy", alt: `${PICTURES[file].shown} of trial ` +
        number, onerror: (event) => event.target.closest("figure").remove() }),
      element("figcaption", {}, PICTURES[file].caption));
  }

  // `plot` is given the panels of the curves and their places, once these stand in the page.
  function training(options, study, number, plot) {
    const block = element("div", { class: "curves" }, "…");
    const absent = () => fill(block, onDisk(study, number, CURVES, "No curves that this page can " +
      "draw."));
    Promise.resolve(options.artifact(study.name, number, CURVES)).then((curves) => {
      if (!curves) {
        absent();
        return;
      }
      const panels = curves.panels.map((panel) => ({ panel, curves, place: element("div", {
        class: "chart curve", role: "img", "aria-label": `${panel.title} by ${curves.x}: ` +
        Object.keys(panel.series).join(", ") }) }));
      const thinned = curves.at.length < curves.steps;
      fill(block, panels.map(({ place }) => place), thinned ? element("p", { class: "muted" },
        `${curves.at.length} of ${curves.steps} points of each line are drawn.`) : null);
      if (block.isConnected) plot(panels);
    }, absent);
    return block;
  }

  function traceback(options, study, number) {
    const block = element("pre", { tabindex: "0", "aria-label": "traceback" }, "…");
    Promise.resolve(options.artifact(study.name, number, "traceback.txt")).then((text) => {
      block.textContent = text || "The traceback is in the study's folder.";
    }, () => {
      block.textContent = "The traceback could not be fetched.";
    });
    return block;
  }

  // Links to a trial's galleries where the page knows of any, else the command that writes one.
  function galleries(options, study, number, folder) {
    const found = options.galleries ? options.galleries(study.name, number) : [];
    return found.length ? element("ul", { class: "galleries" }, found.map(({ name, address }) =>
      element("li", {}, element("a", { href: address }, name))))
      : copyable(`autosearch gallery ${folder} --trial ${number}`);
  }

  const part = (title, ...content) => content.some(Boolean)
    ? [element("h4", {}, title), ...content.filter(Boolean)] : [];

  const fitted = (kept) => kept.fit === "all"
    ? `Measured is what export writes: fitted on all ${kept.fitted_on ?? ""} normal images but ` +
      "the test split's."
    : "Fitted on the train split alone, as in the search.";

  // One row for each category, where a model is for several. Long names may break.
  function categories(kept) {
    const shown = { image_auroc: "image AUROC", ap: "AP", rwap: "rwAP", aupro: "AUPRO" };
    const cells = (values) => Object.keys(shown).map((name) => element("td", {},
      values[name] === null || values[name] === undefined ? "–" : of().format(values[name])));
    const row = ([name, values]) => element("tr", {},
      element("th", { scope: "row" }, name.replace(/[_.-]/g, "$&\u200b")), ...cells(values));
    const each = Object.entries(kept.categories || {});
    return each.length ? [element("table", { class: "plain categories" },
      element("thead", {}, element("tr", {}, ["category", ...Object.values(shown)].map((head) =>
        element("th", { scope: "col" }, head)))),
      element("tbody", {}, each.map(row)))] : [];
  }

  function testPart(study, number) {
    const kept = study.tests[number];
    if (!kept) return [];
    const range = (interval) => interval
      ? `${of().format(interval[0])} to ${of().format(interval[1])}` : "–";
    const level = `${of().format(100 * kept.level)} % interval over ` +
      `${(kept.unit || "images").split(",")[0]}`;
    const table = ({ metrics, intervals }) => element("table", { class: "plain" },
      element("thead", {}, element("tr", {}, ["metric", "value", level].map((head) =>
        element("th", { scope: "col" }, head)))),
      element("tbody", {}, Object.entries(metrics).filter(([, value]) => value !== null).map(
        ([name, value]) => element("tr", {}, element("th", { scope: "row" }, name),
          element("td", {}, of().format(value)), element("td", {}, range(intervals[name]))))));
    return part("Test split",
      element("p", { class: "muted" }, `${kept.images} images that the search never saw: ` +
        "for reporting, not for choosing. " + fitted(kept)),
      kept.reproduced ? null : element("p", { class: "warning", role: "note" },
        "Evaluated again, the validation figures differ from those of the search."),
      table(kept), ...categories(kept),
      ...Object.entries(kept.types).map(([kind, one]) => element("details", {},
        element("summary", {}, `${kind}, ${one.images} images` +
          ((kept.too_few || []).includes(kind) ? ": too few for its intervals" : "")), table(one))));
  }

  // Everything about one trial. `select` is called with the number of another, `plot` as
  // `training` does; `note` is what stands there of a person's note.
  function details(study, i, several, options, select, plot, note) {
    const { mark, runner, why } = window.autosearch.recommended;
    const number = study.trials.number[i];
    const status = of().status(study, i);
    const source = study.cached_from[number];
    const owner = source === undefined ? number : source;
    const figures = Object.keys(study.trials.figures).filter((name) =>
      of().figure(study, name, i) !== null);
    const valued = (name) => {
      const about = of().described([study], name);
      return [name, of().withUnit(of().figure(study, name, i), about.unit), about.help];
    };
    const folder = of().quoted(study.folder);
    const has = (file, n) => study.files[file].includes(n);
    return [
      element("h3", {}, several ? `Trial ${number} of ${study.name} ` : `Trial ${number} `,
        element("span", { class: `status ${status}` }, status),
        study.front.includes(number) ? element("span", { class: "status front" },
          "Pareto front") : null, mark(study, number, "★ recommended"),
        runner(study, number, " next best")),
      source === undefined ? null : element("p", { class: "muted" }, "Behaves as ",
        element("button", { type: "button", class: "link", onclick: () => select(source) },
          `trial ${source}`), ", whose values it took over."),
      study.reasons[number] ? element("p", { class: "reason" }, study.reasons[number]) : null,
      ...part("Why this trial", why(study, number)),
      ...part("Objectives", figures.some((name) => study.compared.includes(name))
        ? pairs(study.compared.filter((name) => figures.includes(name)).map(valued)) : null),
      ...part("Note", note),
      ...part("Export this trial", of().scored(study, i)
        ? copyable(`autosearch export ${folder} --trial ${number}`) : null,
      ),
      ...part("All its images", of().scored(study, i)
        ? galleries(options, study, number, folder) : null),
      ...Object.entries(PICTURES).map(([file, { title }]) => part(title, has(file, owner)
        ? picture(options, study, owner, file) : null)).flat(),
      ...part("Training", has(CURVES, owner) ? training(options, study, owner, plot) : null),
      ...part("Traceback", has("traceback.txt", number) ? traceback(options, study, number)
        : null),
      ...part("Architecture", stages(study, i)),
      ...testPart(study, number),
      ...part("All measured values", figures.length ? pairs(figures.map(valued)) : null),
      ...part("Time", pairs([
        ["in all", of().withUnit(study.trials.duration[i], "s")],
        ...Object.entries(study.trials.seconds).filter(([, c]) => typeof c[i] === "number")
          .map(([name, c]) => [name.replace(/_/g, " "), `${of().format(c[i])} s`])])),
      ...part("In a terminal", copyable(`autosearch show ${folder} --trial ${number}`)),
    ].filter(Boolean);
  }

  // The trial that a budget leads to, in words, and a button that shows it.
  function advice(studies, state, advised, within, select) {
    const number = advised.study.trials.number[advised.i];
    const shown = (axis) => element("strong", {}, of().withUnit(advised[axis],
      of().described(studies, state[axis]).unit));
    const head = advised.study.doubt ? "By chance, the best" : "Best";
    return [`${head} ${state.y} with ${state.x} ${within}: `, shown("y"), " at ", shown("x"), ". ",
      element("button", { type: "button", "data-trial": number, onclick: () => select(advised) },
        studies.length > 1 ? `Show trial ${number} of ${advised.study.name}`
          : `Show trial ${number}`)];
  }

  // Of several studies the legend tells the names, so that shapes are told here.
  function signs(comparison) {
    const kinds = Object.values(window.autosearch.charts.KINDS)
      .map(({ glyph, label }) => `${glyph} ${label}`).join(", ");
    const shaded = comparison.some((group) => group.attainment)
      ? " Shaded: from the worst to the best of repeated studies; dotted: their median." : "";
    return `● front, ${kinds}, ★ recommended.${shaded}`;
  }

  // Shows a tooltip beside a pointer, where there is room in the window.
  function showAt(tooltip, event) {
    tooltip.hidden = false;
    const { width, height } = tooltip.getBoundingClientRect();
    const right = event.clientX + 16 + width < window.innerWidth;
    const top = Math.min(event.clientY + 16, window.innerHeight - height - 8);
    const left = right ? event.clientX + 16 : event.clientX - width - 16;
    tooltip.style.left = `${Math.max(8, left)}px`;
    tooltip.style.top = `${Math.max(8, top)}px`;
  }

  window.autosearch = Object.assign(window.autosearch || {}, {
    parts: { advice, details, element, fill, header, hoverText, pairs, picture, setting, showAt,
      signs, warnings },
  });
})();
