// What a gallery counts: images and pixels that a pair of thresholds calls rightly, and the order.
(() => {
  "use strict";

  const OUTCOMES = { missed: "missed", alarm: "false alarm", found: "found", passed: "passed" };
  const SHORT = { missed: "FN", alarm: "FP", found: "TP", passed: "TN" };

  function prepare(data) {
    const { cuts } = data.image;
    const { edges, counts } = data.pixel;
    data.images.forEach((one, place) => {
      one.place = place;
      one.anomalous = one.type !== data.normal;
    });
    const types = [...new Set(data.images.map((one) => one.type))]
      .sort((a, b) => (a === data.normal) - (b === data.normal) || (a < b ? -1 : 1));

    // The folder that all lie in, which tells them apart least.
    const folders = data.images.map((one) => one.name.split("/").slice(0, -1));
    const common = folders.reduce((all, own) => {
      const differs = all.findIndex((part, i) => part !== own[i]);
      return differs < 0 ? all : all.slice(0, differs);
    });
    const folder = common.map((part) => `${part}/`).join("");

    const outcome = (one, cut) => (one.score >= cuts[cut]
      ? (one.anomalous ? "found" : "alarm") : (one.anomalous ? "missed" : "passed"));

    // By type and over all: images of each outcome.
    function images(cut) {
      const none = () => ({ missed: 0, alarm: 0, found: 0, passed: 0 });
      const all = none();
      const byType = Object.fromEntries(types.map((type) => [type, none()]));
      for (const one of data.images) {
        const kind = outcome(one, cut);
        all[kind] += 1;
        byType[one.type][kind] += 1;
      }
      return { all, byType };
    }

    // The same of pixels that count; a level says how many of the edges a score reaches.
    function pixels(level) {
      const all = { missed: 0, alarm: 0, found: 0, passed: 0 };
      const byType = {};
      for (const type of types) {
        const { anomalous, normal } = counts[type];
        const own = { missed: anomalous[0] - anomalous[level], alarm: normal[level],
          found: anomalous[level], passed: normal[0] - normal[level] };
        byType[type] = own;
        for (const kind of Object.keys(all)) all[kind] += own[kind];
      }
      return { all, byType };
    }

    // Misses and false alarms in turn, then what is right, the nearest to wrong first.
    function worstFirst(list, cut) {
      const wrong = (one) => one.anomalous !== (one.score >= cuts[cut]);
      return [true, false].flatMap((is) => {
        const taken = list.filter((one) => wrong(one) === is);
        const anomalous = taken.filter((one) => one.anomalous).sort((a, b) => a.score - b.score);
        const normal = taken.filter((one) => !one.anomalous).sort((a, b) => b.score - a.score);
        const turns = Array.from({ length: Math.max(anomalous.length, normal.length) },
          (_, i) => [anomalous[i], normal[i]]);
        return turns.flat().filter(Boolean);
      });
    }

    const ORDERS = {
      worst: worstFirst,
      high: (list) => [...list].sort((a, b) => b.score - a.score),
      low: (list) => [...list].sort((a, b) => a.score - b.score),
      name: (list) => [...list].sort((a, b) => (a.name < b.name ? -1 : 1)),
    };

    // Images with a picture that a filter lets through, in order.
    function shown({ cut, type, kind, text, order }) {
      const wanted = text.trim().toLowerCase();
      const kinds = kind === "wrong" ? ["missed", "alarm"] : [kind];
      const list = data.images.filter((one) => one.photo && (!type || one.type === type) &&
        (!kind || kinds.includes(outcome(one, cut))) && one.name.toLowerCase().includes(wanted));
      return ORDERS[order](list, cut);
    }

    return { cuts, edges, types, folder, outcome, images, pixels, shown };
  }

  const share = (part, whole) => (whole ? part / whole : null);

  function rates({ missed, alarm, found, passed }) {
    return {
      recall: share(found, found + missed),
      alarms: share(alarm, alarm + passed),
      precision: found + missed ? share(found, found + alarm) : null,
      f1: found + missed ? share(2 * found, 2 * found + alarm + missed) : null,
    };
  }

  window.autosearchGallery = { data: { OUTCOMES, SHORT, prepare, rates } };
})();
