// The page of a gallery. `mount(root, data)`; what data is, `gallery_data` in Python says.
(() => {
  "use strict";

  const { data: counting, draw, parts } = window.autosearchGallery;
  const { element, digits, percent } = parts;
  const { OUTCOMES, SHORT } = counting;
  const REST = 300;
  const HOW = { mask: "mask at the threshold", map: "anomaly map", none: "image alone" };
  const KEYS = [
    ["← →", "from image to image"], ["Enter", "show the image large; Esc closes it"],
    ["+ −", "threshold of images, one step up or down"],
    [". ,", "threshold of pixels, one step up or down"],
    ["0", "back to the chosen thresholds"], ["m", "mask, anomaly map, image alone"],
    ["g", "outline of the ground truth on or off"], ["/", "search by name"],
    ["?", "show these keys; Esc closes them"],
  ];
  const HONEST = "These are test images. A threshold that is picked here because it does well on " +
    "them is not an honest one: its figures are better than those of new images. Pick on " +
    "validation; the chosen thresholds come from there.";
  const MOVED = "Moved on test images: these are no test figures any more.";

  function mount(root, data) {
    const found = counting.prepare(data);
    const colours = draw.palette(data.pixel);
    const testing = data.about.split === "test";
    const state = { cut: data.image.start, level: data.pixel.start, type: "", kind: "", text: "",
      order: "worst", how: "mask", outlined: true };
    const cards = new Map();
    let list = [];
    let rest = 0;
    let drawing = 0;

    // Thresholds: one pair of controls on the page, another one in the large view.
    const limits = [];
    function controls(where) {
      const pair = {
        cut: parts.control({ id: `${where}-image`, label: "Threshold of images", first: 0,
          last: found.cuts.length - 1, start: data.image.start,
          value: (place) => found.cuts[place], moved: (cut) => move({ cut }) }),
        level: parts.control({ id: `${where}-pixel`, label: "Threshold of pixels", first: 1,
          last: found.edges.length, start: data.pixel.start,
          value: (place) => found.edges[place - 1], moved: (level) => move({ level }) }),
      };
      limits.push(pair);
      return pair;
    }
    function move(changed) {
      Object.assign(state, changed);
      count();
      redraw();
      clearTimeout(rest);
      rest = setTimeout(fill, REST);
    }

    // Counts.
    const summary = element("p", { class: "summary", "aria-live": "polite" });
    const moved = element("p", { class: "moved", hidden: true }, MOVED);
    const tables = element("div", { class: "tables" });
    const inFull = element("details", { open: window.innerWidth > 600 },
      element("summary", {}, "Counts in full"), tables);
    function count() {
      const images = found.images(state.cut);
      const pixels = found.pixels(state.level);
      const share = counting.rates(pixels.all);
      summary.replaceChildren(...parts.line(images.all), element("span", { class: "count" },
        `pixels: recall ${parts.rate(share.recall)}, precision ${parts.rate(share.precision)}`));
      tables.replaceChildren(
        parts.confusion("Images", images.all), parts.confusion("Pixels", pixels.all),
        element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "By type" },
          parts.byType(found.types, data.normal, images.byType, pixels.byType)));
      moved.hidden = !testing ||
        (state.cut === data.image.start && state.level === data.pixel.start);
      const wrong = ["missed", "alarm"].map((kind) => parts.said(kind, images.all[kind]));
      for (const { cut, level } of limits) {
        cut.show(state.cut, wrong.join(", "));
        level.show(state.level, `recall ${parts.rate(share.recall)}`);
      }
    }

    // Cards; pictures are read when they come into sight, and let go when they leave it.
    const grid = element("ul", { class: "grid" });
    const watch = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        const card = target.card;
        card.seen = isIntersecting;
        if (isIntersecting) load(card);
        else card.picture = null;
      }
    }, { rootMargin: "300px" });
    async function load(card) {
      card.photo.src = card.one.photo;
      card.picture = card.picture || await draw.read(card.one);
      if (!card.picture.exact) unread.hidden = false;
      paint(card);
    }
    function paint(card) {
      if (card.picture) draw.paint(card.canvas, card.picture, colours, state);
    }
    function frame(one) {
      const photo = element("img", { alt: "" });
      const canvas = element("canvas");
      return { photo, canvas, root: element("span", { class: "frame" }, photo, canvas) };
    }
    function cardOf(one) {
      if (cards.has(one.place)) return cards.get(one.place);
      const { photo, canvas, root: inside } = frame(one);
      const mark = element("span", { class: "mark" });
      const button = element("button", { type: "button", onclick: () => open(one) }, inside,
        element("span", { class: "name" }, one.name.slice(found.folder.length)),
        element("span", { class: "about" }, mark, ` ${one.type}${extra(one)}, ${digits(one.score)}`));
      const item = element("li", {}, button);
      const card = { one, photo, canvas, mark, button, item, picture: null, seen: false };
      item.card = card;
      cards.set(one.place, card);
      return card;
    }
    const extra = (one) => (one.made ? ", made" : "") + (one.marked ? "" : ", no mask");
    function name(card) {
      const kind = found.outcome(card.one, state.cut);
      card.mark.textContent = OUTCOMES[kind];
      card.mark.className = `mark ${kind}`;
      card.item.className = kind;
    }
    function redraw() {
      cancelAnimationFrame(drawing);
      drawing = requestAnimationFrame(() => {
        for (const one of list) {
          const card = cards.get(one.place);
          name(card);
          if (card.seen) paint(card);
        }
        if (large.open) fillLarge();
      });
    }

    // Filters, and what they let through in order.
    const number = element("p", { class: "muted", role: "status" });
    function fill() {
      const before = list;
      list = found.shown(state);
      const total = data.images.filter((one) => one.photo).length;
      number.textContent = `${list.length} of ${total} images`;
      if (list.length !== before.length || list.some((one, i) => one !== before[i])) {
        const at = document.activeElement;
        watch.disconnect();
        grid.replaceChildren(...list.map((one) => cardOf(one).item));
        for (const one of list) watch.observe(cards.get(one.place).item);
        if (at && at.isConnected && at !== document.activeElement) at.focus();
      }
      redraw();
    }
    function choice(label, key, options) {
      const select = element("select", { onchange: () => {
        state[key] = select.value;
        fill();
      } }, Object.entries(options).map(([value, text]) => element("option", { value }, text)));
      return { select, root: element("label", {}, `${label} `, select) };
    }
    const search = element("input", { type: "search", placeholder: "part of a name", oninput: () => {
      state.text = search.value;
      fill();
    } });
    const how = choice("Show", "how", HOW);
    const outlined = element("input", { type: "checkbox", checked: true, onchange: () => {
      state.outlined = outlined.checked;
      redraw();
    } });
    const filters = element("div", { class: "filters", role: "group", "aria-label": "Filters" },
      choice("Type", "type", { "": "all", ...Object.fromEntries(found.types.map((t) => [t, t])) })
        .root,
      choice("Outcome", "kind", { "": "all", wrong: "wrong (missed, false alarm)",
        ...Object.fromEntries(Object.entries(OUTCOMES).map(([k, text]) =>
          [k, `${text} (${SHORT[k]})`])) }).root,
      choice("Order", "order", { worst: "worst first", high: "highest score first",
        low: "lowest score first", name: "name" }).root,
      element("label", {}, "Name ", search), how.root,
      element("label", {}, outlined, " ground truth"),
      element("button", { type: "button", onclick: () => help.showModal() }, "Keys (?)"));

    // The large view.
    const title = element("h2", { id: "large-title" });
    const facts = element("p", { class: "facts" });
    const panels = Object.keys(HOW).reverse().map((kind) => ({ kind, ...frame() }));
    function walk(by) {
      const next = list[(list.indexOf(state.one) + by + list.length) % list.length];
      if (next) show(next);
    }
    const large = element("dialog", { class: "large", "aria-labelledby": "large-title",
      onclose: () => cards.get(state.one.place).button.focus() },
      element("div", { class: "bar" }, title,
        element("button", { type: "button", "aria-label": "Previous image",
          onclick: () => walk(-1) }, "←"),
        element("button", { type: "button", "aria-label": "Next image",
          onclick: () => walk(1) }, "→"),
        element("button", { type: "button", onclick: () => large.close() }, "Close")),
      facts,
      element("div", { class: "panels" }, panels.map(({ kind, root: inside }) =>
        element("figure", {}, inside,
          element("figcaption", {}, kind === "none" ? "image" : HOW[kind])))),
      element("div", { class: "thresholds" }, Object.values(controls("large")).map((c) => c.root)));
    async function show(one) {
      state.one = one;
      state.picture = null;
      for (const { photo } of panels) photo.src = one.photo;
      const picture = await draw.read(one);
      if (state.one !== one) return;
      state.picture = picture;
      fillLarge();
    }
    function open(one) {
      large.showModal();
      show(one);
    }
    function fillLarge() {
      const { one, picture } = state;
      const kind = found.outcome(one, state.cut);
      title.textContent = one.name;
      // A threshold that was moved may have taken it out of the list.
      const at = list.indexOf(one);
      const said = [...(at < 0 ? [] : [`${at + 1} of ${list.length}`]), `${one.type}${extra(one)}`,
        `score ${digits(one.score)}, threshold ${digits(found.cuts[state.cut])}`];
      if (picture) {
        const { inside, outside } = draw.foundIn(picture, state.level);
        if (inside !== null) said.push(`${percent(inside)} of the marked area called anomalous`);
        said.push(`${percent(outside)} of the rest`);
        for (const { kind: its, canvas } of panels) {
          draw.paint(canvas, picture, colours, { ...state, how: its });
        }
      }
      facts.replaceChildren(element("span", { class: `mark ${kind}` },
        `${OUTCOMES[kind]} (${SHORT[kind]})`), ` ${said.join("; ")}`);
    }

    // Keys.
    const help = element("dialog", { class: "keys", "aria-labelledby": "keys-title" },
      element("h2", { id: "keys-title" }, "Keys"),
      element("dl", {}, KEYS.map(([key, what]) => [element("dt", {}, element("kbd", {}, key)),
        element("dd", {}, what)])),
      element("button", { type: "button", onclick: () => help.close() }, "Close"));
    function step(by) {
      if (large.open) {
        walk(by);
        return;
      }
      const at = list.findIndex((one) => cards.get(one.place).button === document.activeElement);
      const next = list[at < 0 ? 0 : Math.min(list.length - 1, Math.max(0, at + by))];
      if (next) cards.get(next.place).button.focus();
    }
    const turn = (key, by) => limits[0][key].step(by);
    const acts = {
      ArrowLeft: () => step(-1), ArrowRight: () => step(1),
      "+": () => turn("cut", 1), "=": () => turn("cut", 1),
      "-": () => turn("cut", -1), "−": () => turn("cut", -1),
      ".": () => turn("level", 1), ",": () => turn("level", -1),
      0: () => move({ cut: data.image.start, level: data.pixel.start }),
      m: () => {
        const names = Object.keys(HOW);
        state.how = names[(names.indexOf(state.how) + 1) % names.length];
        how.select.value = state.how;
        redraw();
      },
      g: () => outlined.click(),
      "/": () => !large.open && search.focus(),
      "?": () => help.showModal(),
    };
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
      const writing = event.target.closest("input[type=search], select");
      const sliding = event.target.closest("input[type=range]") && event.key.startsWith("Arrow");
      const act = acts[event.key];
      if (writing || sliding || !act) return;
      event.preventDefault();
      act();
    });

    // The page.
    const { about } = data;
    const unread = element("p", { class: "warning", hidden: true }, "This browser does not let a " +
      "page read its own pictures exactly (a protection against tracking), so masks may be " +
      "wrong. Figures are right.");
    const anomalous = data.images.filter((one) => one.anomalous).length;
    root.replaceChildren(
      element("header", {}, element("h1", {},
          `${about.title}, ${about.name}: ${about.split} images`),
        element("p", { class: "muted" }, `${data.images.length} images of the ${about.split} split, ` +
          `${anomalous} of them anomalous; fitted on ${about.fitted_on} images. Thresholds were ` +
          `chosen on validation for ${about.rule}.`),
        testing ? element("p", { class: "warning" }, HONEST) : null, unread,
        element("details", {}, element("summary", {}, "About these figures"),
          about.notes.map((note) => element("p", {}, note)))),
      element("section", { class: "panel", "aria-label": "Thresholds" },
        element("div", { class: "thresholds" },
          Object.values(controls("page")).map((c) => c.root)), summary, moved),
      inFull, filters,
      element("p", { class: "legend" }, element("span", { class: "sample mask" }),
        " called anomalous ", element("span", { class: "sample truth" }), " ground truth"),
      number, grid, large, help);
    limits.reverse();
    count();
    fill();
    new ResizeObserver(redraw).observe(grid);
  }

  window.autosearchGallery.mount = mount;
})();
