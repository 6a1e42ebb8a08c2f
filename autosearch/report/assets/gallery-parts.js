// Parts of a gallery: elements, numbers, the control of a threshold, tables of what is right.
(() => {
  "use strict";

  const { OUTCOMES, SHORT, rates } = window.autosearchGallery.data;

  // An element; text stays text whatever it holds.
  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
      else if (value === true) made.setAttribute(key, "");
      else if (value !== false && value !== null) made.setAttribute(key, value);
    }
    made.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return made;
  }

  const digits = (value) => (Number.isInteger(value) ? String(value)
    : Number(value.toPrecision(4)).toString());
  const rate = (value) => (value === null ? "–" : value.toFixed(3));
  const percent = (value) => (value === null ? "–" : `${(100 * value).toFixed(1)} %`);
  const many = (value) => value.toLocaleString("en");

  // A slider with its value, a button to either side and one back to where it began; `moved` is
  // told of another position. `show` sets the position without telling anybody.
  function control({ id, label, first, last, start, value, moved }) {
    const output = element("output", { for: id });
    const range = element("input", { type: "range", id, min: first, max: last, step: 1,
      oninput: () => moved(Number(range.value)) });
    const step = (by) => moved(Math.min(last, Math.max(first, Number(range.value) + by)));
    const less = element("button", { type: "button", "aria-label": `Lower: ${label}`,
      onclick: () => step(-1) }, "−");
    const more = element("button", { type: "button", "aria-label": `Higher: ${label}`,
      onclick: () => step(1) }, "+");
    const back = element("button", { type: "button", class: "back", onclick: () => moved(start) },
      "reset");
    back.setAttribute("aria-label", `Back to the chosen one: ${label}`);
    const root = element("div", { class: "threshold" }, element("label", { for: id }, label),
      output, element("div", { class: "slide" }, less, range, more, back));
    function show(position, said) {
      range.value = position;
      output.textContent = `${digits(value(position))}${position === start ? " (chosen)" : ""}`;
      range.setAttribute("aria-valuetext", `${digits(value(position))}, ${said}`);
      back.disabled = position === start;
      less.disabled = position === first;
      more.disabled = position === last;
    }
    return { root, show, step };
  }

  const said = (kind, number) =>
    `${many(number)} ${OUTCOMES[kind]}${kind === "alarm" && number !== 1 ? "s" : ""}`;
  const row = (head, cells) => element("tr", {}, element("th", { scope: "row" }, head),
    cells.map((cell) => element("td", {}, cell)));
  const heads = (names) => element("tr", {}, names.map((name) =>
    element("th", { scope: "col" }, name)));

  function confusion(title, counts) {
    const cell = (kind) => element("td", { class: kind, "data-count": kind },
      element("b", {}, many(counts[kind])), ` ${OUTCOMES[kind]} (${SHORT[kind]})`);
    const found = rates(counts);
    const figures = [["recall", found.recall], ["precision", found.precision], ["F1", found.f1],
      ["false-positive rate", found.alarms]];
    return element("div", { class: "confusion" },
      element("table", {}, element("caption", {}, title),
        heads(["", "called anomalous", "called normal"]),
        element("tr", {}, element("th", { scope: "row" }, "anomalous"),
          cell("found"), cell("missed")),
        element("tr", {}, element("th", { scope: "row" }, "normal"),
          cell("alarm"), cell("passed"))),
      element("dl", { class: "figures" }, figures.map(([name, value]) => element("div", {},
        element("dt", {}, name), element("dd", { "data-figure": name }, rate(value))))));
  }

  // A row for each type; `normal` is that of images without a defect.
  function byType(types, normal, images, pixels) {
    const rows = types.map((type) => {
      const own = images[type];
      if (type === normal) {
        return row(type, [own.alarm + own.passed, said("alarm", own.alarm),
          percent(rates(own).alarms), percent(rates(pixels[type]).alarms)]);
      }
      return row(type, [own.found + own.missed, said("missed", own.missed),
        percent(rates(own).recall), percent(rates(pixels[type]).recall)]);
    });
    return element("table", { class: "types" },
      element("caption", {}, "Called anomalous, by type; pixels are those of the defects, or of ",
        "normal images"),
      heads(["type", "images", "wrong", "of images", "of pixels"]), rows);
  }

  const line = (counts) => ["found", "alarm", "missed", "passed"].map((kind) =>
    element("span", { class: `count ${kind}` }, element("b", {}, many(counts[kind])),
      said(kind, counts[kind]).slice(many(counts[kind]).length)));

  Object.assign(window.autosearchGallery, {
    parts: { element, digits, rate, percent, said, control, confusion, byType, line },
  });
})();
