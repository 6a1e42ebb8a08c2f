// What a person wrote about a trial. `options.note(study, number, text)`, where there is one, has a
// note kept and answers with it, or null where it was taken away, or fails with a reason.
(() => {
  "use strict";

  const LONGEST = 2000;
  const SHORT = 120;
  // Of notes that were begun and not kept yet, by study and number.
  const drafts = new Map();

  const of = (study, number) => (study.notes || {})[number] || null;

  // In the table: that there is one.
  function sign(study, number) {
    const note = of(study, number);
    return note && window.autosearch.parts.element("span", { class: "noted", role: "img",
      title: note.text, "aria-label": `Note: ${note.text}` }, " ✎");
  }

  // In a tooltip.
  function short(study, number) {
    const note = of(study, number);
    if (!note) return null;
    const cut = note.text.length > SHORT ? `${note.text.slice(0, SHORT)}…` : note.text;
    return window.autosearch.parts.element("p", { class: "note" }, cut);
  }

  const told = (note) => `Written ${note.written.replace("T", " ").replace("+00:00", " UTC")}.`;

  // In the details: the note, or a field to write it in. `kept` is called once one was kept.
  function block(study, number, options, kept) {
    const { element } = window.autosearch.parts;
    const note = of(study, number);
    if (!options.note) {
      return note && element("div", {}, element("p", { class: "note" }, note.text),
        element("p", { class: "muted" }, told(note)));
    }
    const key = JSON.stringify([study.name, number]);
    const before = note ? note.text : "";
    const field = element("textarea", { rows: 3, maxlength: LONGEST, class: "note-field",
      "aria-label": `Note on trial ${number}`, oninput: () => {
        drafts.set(key, field.value);
        state.textContent = "Not kept yet.";
      } });
    field.value = drafts.get(key) ?? before;
    const state = element("span", { role: "status", class: "muted" }, drafts.has(key)
      ? "Not kept yet." : note ? told(note) : "");
    const save = async () => {
      button.disabled = true;
      try {
        const answer = await options.note(study.name, number, field.value);
        drafts.delete(key);
        if (answer) study.notes[number] = answer;
        else delete study.notes[number];
        state.textContent = answer ? told(answer) : "No note.";
        kept();
      } catch (error) {
        state.textContent = error.message;
      }
      button.disabled = false;
    };
    const button = element("button", { type: "button", onclick: save }, "Keep note");
    return element("div", { class: "note-block" }, field,
      element("div", { class: "controls" }, button, state),
      study.in_database ? element("p", { class: "muted" }, "The trials are in a database, the " +
        "note is in this folder alone.") : null);
  }

  window.autosearch = Object.assign(window.autosearch || {}, { notes: { block, short, sign } });
})();
