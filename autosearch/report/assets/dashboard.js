// Between Dash, which asks the server for news, and the page, which shows them.
(() => {
  "use strict";
  const SILENT_MILLISECONDS = 15000;
  const rows = new Map();
  let heardAt = Date.now();
  let chosen = [];
  let drawn = null;
  let mounted = false;
  let followed = false;
  let revealed = false;

  const at = (id) => document.getElementById(id);

  function element(tag, name, ...children) {
    const made = document.createElement(tag);
    if (name) made.className = name;
    made.append(...children);
    return made;
  }

  function choose(name, wanted) {
    const others = chosen.filter((one) => one !== name && rows.has(one));
    // Kept here too, for a second click that comes before the server's answer to the first.
    setChosen(wanted ? [...others, name] : others);
    window.autosearch.links.write({ study: chosen.length ? chosen : [""] }, true);
  }

  function setChosen(names) {
    chosen = names;
    window.dash_clientside.set_props("chosen", { data: names });
  }

  // Studies that the address names; null where it names none, not even that there are none.
  function asked() {
    const named = window.autosearch.links.read().getAll("study");
    return named.length ? [...new Set(named.filter(Boolean))] : null;
  }

  const alike = (a, b) => a.join("\n") === b.join("\n");

  async function note(study, number, text) {
    const answer = await fetch("/note", { method: "POST", body: JSON.stringify({ study, number,
      text }), headers: { "Content-Type": "application/json",
      "X-Autosearch-Token": at("view").dataset.token } }).catch(() => null);
    if (!answer) throw new Error("Not kept: the server does not answer.");
    if (!answer.ok) {
      const why = (await answer.text()).trim().replace(/^\d+ [^:]*: /, "");
      throw new Error(`Not kept: ${why}`);
    }
    return answer.json();
  }

  function newRow(name) {
    const box = element("input");
    Object.assign(box, { type: "checkbox", value: name });
    box.addEventListener("change", () => choose(name, box.checked));
    const [state, told] = [element("span"), element("span", "counts")];
    const study = element("span", "study", element("b", "", name), state, told);
    return { box, state, told, label: element("label", "", box, study) };
  }

  function list(studies) {
    for (const { name, state, told } of studies) {
      if (!rows.has(name)) rows.set(name, newRow(name));
      const row = rows.get(name);
      row.state.textContent = state;
      row.state.className = `status ${state}`;
      row.told.textContent = told;
      row.box.checked = chosen.includes(name);
    }
    const names = studies.map((one) => one.name);
    for (const name of rows.keys()) if (!names.includes(name)) rows.delete(name);
    const labels = names.map((name) => rows.get(name).label);
    const place = at("studies");
    // Putting an element back where it was takes the focus from it.
    if (labels.length !== place.children.length ||
        labels.some((label, i) => label !== place.children[i])) {
      const focused = document.activeElement;
      place.replaceChildren(...labels);
      if (place.contains(focused)) focused.focus();
    }
  }

  // What is chosen at first may lie below what the list shows.
  function reveal() {
    const row = rows.get(chosen.find((name) => rows.has(name)));
    if (!row || revealed) return;
    revealed = true;
    const place = at("studies");
    const below = row.label.getBoundingClientRect().bottom - place.getBoundingClientRect().bottom;
    if (below > 0) place.scrollTop += below;
  }

  function artifact(study, number, name) {
    const address = `/artifact?${new URLSearchParams({ study, number, name })}`;
    if (name.endsWith(".jpg")) return address;
    const content = (answer) => (name.endsWith(".json") ? answer.json() : answer.text());
    return fetch(address).then((answer) => (answer.ok ? content(answer) : null));
  }

  function draw(data) {
    const place = at("view");
    place.hidden = data.studies.length === 0;
    if (place.hidden) return;
    if (mounted) {
      window.autosearch.update(data);
    } else {
      const root = element("div");
      place.append(root);
      window.autosearch.mount(root, data, { artifact, note });
    }
    mounted = true;
  }

  setInterval(() => {
    const silent = Date.now() - heardAt >= SILENT_MILLISECONDS;
    if (!at("silent")) return;
    at("silent").hidden = !silent;
    // An unanswered question leaves Dash's clock stopped.
    if (silent) window.dash_clientside.set_props("tick", { disabled: false });
  }, 1000);

  window.dash_clientside = Object.assign(window.dash_clientside || {}, {
    dashboard: {
      // Called at every answer of the server, with what it sent last of each.
      heard(clock, listing, selected, data) {
        if (!listing) return;
        heardAt = Date.now();
        if (!followed) {
          followed = true;
          const wanted = asked();
          window.autosearch.links.follow(() => {
            const others = asked();
            if (others && !alike(others, chosen)) setChosen(others);
          });
          if (wanted && !alike(wanted, selected || [])) {
            setChosen(wanted);
            return;
          }
          window.autosearch.links.write({ study: selected || [""] }, false);
        }
        chosen = selected || [];
        at("time").textContent = clock;
        list(listing.studies);
        reveal();
        at("notes").replaceChildren(...listing.notes.map((note) => element("p", "", note)));
        if (data && data !== drawn) {
          drawn = data;
          draw(data);
        }
      },
    },
  });
})();
