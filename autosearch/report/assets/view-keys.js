// Single keys, and the box that lists them.
(() => {
  "use strict";

  const KEYS = [
    ["← →", "walk along the Pareto front, while the chart has the focus; Home and End: its ends"],
    ["r", "show the recommended trial"],
    ["c", "keep the selected trial to compare others with; again: end the comparison"],
    ["Shift + click", "compare a point or a row with the selected trial"],
    ["n", "write a note on the selected trial, in the dashboard"],
    ["/", "filter the table"],
    ["?", "show these keys; Esc closes them"],
  ];

  const isWriting = (place) => place.closest("input, textarea, select, [contenteditable]");

  // The box; `acts` are what keys do, `state.keys` whether they do it.
  function prepare(root, state, acts, changed) {
    const { element } = window.autosearch.parts;
    const on = element("input", { type: "checkbox", onchange: () => {
      state.keys = on.checked;
      changed();
    } });
    const close = element("button", { type: "button", onclick: () => box.close() }, "Close");
    const box = element("dialog", { class: "keys", "aria-labelledby": "autosearch-keys" },
      element("h2", { id: "autosearch-keys" }, "Keys"),
      element("dl", { class: "pairs" }, KEYS.map(([key, what]) => [
        element("dt", {}, element("kbd", {}, key)), element("dd", {}, what)])),
      element("p", {}, element("label", { class: "check" }, on,
        " Letters act by themselves (not with speech input)")),
      close);
    root.append(box);
    const show = () => {
      on.checked = state.keys;
      if (!box.open) box.showModal();
    };
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
      if (!state.keys || box.open || isWriting(event.target)) return;
      const act = event.key === "?" ? show : acts[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    });
    return show;
  }

  window.autosearch = Object.assign(window.autosearch || {}, { keys: { prepare } });
})();
