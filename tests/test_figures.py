"""Figures of studies: what they show is what is stored, and files of them are whole."""

import io
import json
import re
import sys
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import autosearch
from autosearch import cli
from autosearch.api.figures import _exported as read
from autosearch.contracts.trials import SCORED, Outcome, Status
from autosearch.errors import ConfigError, StudyError
from autosearch.report.chart import Chart, Counts, Series
from autosearch.report.figure_files import Print, picture, to_matplotlib
from autosearch.report.figure_plotly import to_plotly
from autosearch.report.figures import chart
from autosearch.report.info import study_info
from autosearch.report.shown import Shown, shown_studies
from autosearch.storage.folder import StudyFolder
from autosearch.storage.optuna_study import open_study

NORMAL, REAL = [0.1, 0.2, 0.2, 0.7], [0.5, 0.9, 1.0]
PANELS = [("loss", "train", [1.0, None, 0.001]), ("rate", "rate", [0.1, 0.2, 0.3])]
CURVES = {"x": "epoch", "panels": [{"title": t, "series": {s: y}} for t, s, y in PANELS]}
KINDS: dict[str, dict[str, Any]] = {
    "pareto": {}, "progress": {}, "importance": {}, "parallel": {}, "thresholds": {"trial": 0},
    "curves": {"trial": 0},
}  # fmt: skip
LABELS = {
    "pareto": {"gflops (GFLOP)", "rwap", "front", "fixed choice", "other first trials"},
    "progress": {"hypervolume (share of box)", "trials"},
    "importance": {"share of the importance (PED-ANOVA)", "gflops", "rwap"},
    "parallel": {"gflops", "rwap"},
    "thresholds": {"normal", "anomalous", "score of an image"},
    "curves": {"epoch", "loss", "rate"},
}


@pytest.fixture(scope="module")
def folders(make_study: Callable[..., StudyFolder], tmp_path_factory) -> list[StudyFolder]:
    """Two studies of 40 trials; the first began with two of its configurations."""
    path = tmp_path_factory.mktemp("studies")
    first, second = make_study(path / "first", 40), make_study(path / "second", 40, seed=1)
    begun = [record.params for record in first.trials.records()[:2]]
    first.write_spec(first.load_spec().model_copy(update={"start": begun}))
    kept = io.BytesIO()
    np.savez(kept, **{"scores.normal": np.float32(NORMAL), "scores.real": np.float32(REAL)})
    files = {"choice.npz": kept.getvalue(), "curves.json": json.dumps(CURVES).encode()}
    first.files.write_outcome(0, Outcome(Status.COMPLETE, artifacts=files))
    return [first, second]


@pytest.fixture(scope="module")
def shown(folders: list[StudyFolder]) -> list[Shown]:
    return shown_studies(folders)


def series(drawing: Any, panel: int = 0) -> dict[str, Series]:
    return {one.name: one for one in drawing.panels[panel].shown}


def values(folder: StudyFolder) -> dict[int, tuple[float, float]]:
    records = [r for r in folder.trials.records() if r.status in SCORED]
    return {r.number: (r.values["gflops"], r.values["rwap"]) for r in records}


class TestWhatIsShown:
    def test_points_are_the_trials_in_both_drawings(self, folders, shown) -> None:
        drawing = chart(shown[:1], "pareto")
        (axes,) = to_matplotlib(drawing, Print()).axes
        known = values(folders[0])
        lines = {line.get_label(): line.get_xydata() for line in axes.lines}
        drawn = np.concatenate([lines["trials"], lines["front"]])
        np.testing.assert_allclose(sorted(map(tuple, drawn)), sorted(known.values()), rtol=1e-5)
        traces = {trace.name: trace for trace in to_plotly(drawing).data}
        for name, points in lines.items():
            assert np.array_equal(np.column_stack([traces[name].x, traces[name].y]), points)
        front = study_info(folders[0])["front"]
        assert list(traces["front"].customdata) == front
        assert traces["front"].line.shape == "hv"
        steps = {line.get_label(): line.get_drawstyle() for line in axes.lines}
        assert steps["front"] == "steps-post"

    def test_the_first_trials_are_marked(self, folders, shown) -> None:
        known, found = values(folders[0]), series(chart(shown[:1], "pareto"))
        assert list(found["fixed choice"].numbers) == [0]
        assert list(found["other first trials"].numbers) == [1]
        assert (found["fixed choice"].x[0], found["fixed choice"].y[0]) == pytest.approx(known[0])
        assert not shown[1].marked

    def test_a_front_of_other_figures_is_not_joined(self, shown) -> None:
        assert series(chart(shown[:1], "pareto", x="ap"))["front"].join == ""
        turned = series(chart(shown[:1], "pareto", x="rwap", y="gflops"))["front"]
        assert turned.join == "steps-back" and list(turned.x) == sorted(turned.x)

    def test_axes_are_logarithmic_where_the_page_has_them_so(self, shown) -> None:
        (panel,) = chart(shown[:1], "pareto").panels
        assert not panel.log_x  # 0.05 to 0.6.
        (panel,) = chart(shown[:1], "pareto", log_x=True, log_y=True).panels
        figure = to_plotly(Chart("", [panel]))
        assert (figure.layout.xaxis.type, figure.layout.yaxis.type) == ("log", "log")
        info = shown[0].info
        far = {**info["trials"]["figures"], "gflops": [1 + 31 * (i % 2) for i in range(40)]}
        wide = Shown({**info, "trials": {**info["trials"], "figures": far}}, *_rest(shown[0]))
        assert chart([wide], "pareto").panels[0].log_x

    def test_several_studies_share_one_box(self, folders, shown) -> None:
        known = [values(folder) for folder in folders]
        every = np.array([row for one in known for row in one.values()])
        low, high = every.min(axis=0), every.max(axis=0)
        worst = np.array([high[0], low[1]]) + 0.1 * np.array([high[0] - low[0], low[1] - high[1]])
        whole = abs(np.prod(worst - [low[0], high[1]]))
        found = series(chart(shown, "progress"))
        for one, name in zip(known, ("first", "second"), strict=True):
            area, best = 0.0, worst[1]
            for x, y in sorted(one.values()):  # By x: each adds what it is above those before.
                area += max(0, y - best) * (worst[0] - x)
                best = max(best, y)
            assert found[name].y[-1] == pytest.approx(area / whole, rel=1e-4)
            assert len(found[name].y) == 40
        assert found["fixed choice"].x == [1] and found["other first trials"].x == [2]

    def test_several_studies_have_names_and_a_panel_each_objective(self, shown) -> None:
        assert {"first", "second"} < set(series(chart(shown, "pareto")))
        panels = chart(shown, "importance").panels
        assert [panel.title for panel in panels] == ["gflops", "rwap"]
        shares = shown[1].info["importance"]["rwap"]
        bars = series(chart(shown, "importance"), 1)["second"]
        assert bars.lengths == [shares[name] for name in bars.names]
        axes = to_matplotlib(chart(shown, "importance"), Print()).axes[1]
        widths = [bar.get_width() for bar in axes.patches[len(bars.names) :]]
        assert widths == pytest.approx(bars.lengths)

    def test_thresholds(self, folders, shown) -> None:
        drawing = chart(shown[:1], "thresholds", trial=0)
        normal, real, best = drawing.panels[0].shown
        assert isinstance(normal, Counts) and isinstance(real, Counts)
        assert (sum(normal.counts), sum(real.counts)) == (4, 3)
        assert np.histogram(np.float32(REAL), real.edges)[0].tolist() == real.counts
        # Three found and one alarm, F1 6 / 7, against two found and none, 4 / 5.
        assert best.x[0] == pytest.approx((0.2 + 0.5) / 2)
        exported = shown_studies(folders[:1], [{0: {"trial-0 (fpr)": 0.8}}])
        assert chart(exported, "thresholds", trial=0).panels[0].shown[-1].x == [0.8, 0.8]
        copy = {**shown[0].info, "cached_from": {"3": 0}}
        again = chart([Shown(copy, *_rest(shown[0]))], "thresholds", trial=3)
        assert again.panels[0].shown[0].counts == normal.counts

    def test_exports_are_found(self, folders, monkeypatch) -> None:
        for name in ("broken", "mine"):
            path = folders[0].path / "exports" / name / "model.json"
            path.parent.mkdir(parents=True)
            path.write_text("{}")
        assert read(folders) == [{}, {}]
        limit = {"value": 0.6, "rule": "cost"}
        whole = {"study": {"trial": 4}, "thresholds": {"image": limit}}
        monkeypatch.setattr(
            "autosearch.export.read_manifest", lambda path: whole if path.name == "mine" else {}
        )
        assert read(folders) == [{4: {"mine (cost)": 0.6}}, {}]

    def test_curves(self, shown) -> None:
        drawing = chart(shown[:1], "curves", trial=0)
        assert [panel.log_y for panel in drawing.panels] == [True, False]
        axes = to_matplotlib(drawing, Print()).axes
        assert axes[0].lines[0].get_xydata().tolist() == [[1, 1.0], [3, 0.001]]
        assert to_plotly(drawing).data[0].connectgaps

    def test_parallel_lines_are_the_trials(self, folders, shown) -> None:
        drawing = chart(shown[:1], "parallel")
        last = drawing.dimensions[-1]
        assert list(last.places) == pytest.approx(
            [y for _, y in values(folders[0]).values()], 1e-5
        )
        figure = to_matplotlib(drawing, Print())
        lines = np.array(figure.axes[0].collections[0].get_segments())
        places = np.sort(np.array(last.places))
        heights = (places - places[0]) / (places[-1] - places[0])
        assert lines[:, -1, 1] == pytest.approx(heights)  # The best are on top.
        assert lines.shape[1] == 14 < len(drawing.dimensions)

    @pytest.mark.parametrize("step", [1, -1])
    def test_better_is_on_top_of_all_objectives(self, folders, shown, step: int) -> None:
        info = {**shown[0].info, "objectives": shown[0].info["objectives"][::step]}
        drawing = chart([Shown(info, *_rest(shown[0]))], "parallel")
        figure = to_matplotlib(drawing, Print())
        found = figure.axes[0].collections[0]
        names = ["gflops", "rwap"][::step]
        # The least gflops and the highest rwap at 1, the others in proportion.
        known = np.array(list(values(folders[0]).values()))
        low, high = known.min(0), known.max(0)
        heights = (np.where([True, False], high - known, known - low) / (high - low))[:, ::step]
        order = np.argsort(heights[:, 1], kind="stable")  # The best are in front, and bright.
        drawn = np.array(found.get_segments())[:, -2:, 1]
        np.testing.assert_allclose(drawn, heights[order], atol=1e-4)
        assert drawing.name == names[1]
        bright = found.to_rgba(found.get_array()).sum(1)
        assert bright[-1] == max(bright) > bright[0]
        bar = figure.axes[1].get_ylim()
        assert (bar[0] > bar[1]) == (names[1] == "gflops")
        place = len(figure.axes[0].get_xticks()) - len(names) + names.index("gflops")
        texts = {one.get_text(): one.xy[1] for one in figure.axes[0].texts if one.xy[0] == place}
        assert texts == {f"{low[0]:.4g}": 1, f"{high[0]:.4g}": 0}
        trace = to_plotly(drawing)
        line, axes = trace.data[0].line, trace.data[0].dimensions[-2:]
        assert line.reversescale == (names[1] == "gflops")
        for axis, name in zip(axes, names, strict=True):
            ends = axis.range and tuple(axis.range)
            assert ends == ((max(axis.values), min(axis.values)) if name == "gflops" else None)
        assert "better is on top" in trace.layout.title.text
        assert "better is on top" in figure.axes[0].get_xlabel()


def _rest(one: Shown) -> tuple[Any, ...]:
    return one.folder, one.name, one.starts, one.exported


def test_an_open_study_is_not_opened_again(folders, monkeypatch) -> None:
    study = autosearch.open_study(folders[0].path)
    # The password of a database may have been given when it was opened, and nowhere else.
    monkeypatch.delattr(StudyFolder, "open")
    assert study.figure("pareto").data and study.figure("thresholds", trial=0).data


class TestFiles:
    @pytest.mark.parametrize("kind", KINDS)
    def test_svg_has_the_labels(self, shown, kind: str) -> None:
        content = picture(chart(shown[:1], kind, **KINDS[kind]), "svg", Print(font_size=6))
        root = ElementTree.fromstring(content)
        texts = {
            "".join(text.itertext()).strip()
            for text in root.iter("{http://www.w3.org/2000/svg}text")
        }
        assert LABELS[kind] <= texts

    def test_names_are_no_formulas_and_no_markup(self, folders) -> None:
        names = ["$\\alpha$ & <b>", "a_b^2"]
        content = picture(chart(shown_studies(folders, labels=names), "pareto"), "svg", Print())
        texts = "".join(ElementTree.fromstring(content).itertext())
        assert all(name in texts for name in names)

    def test_sizes_are_those_of_paper(self, shown) -> None:
        drawing = chart(shown[:1], "progress")
        for width, millimetres in ((None, 88), ("double", 180), (50, 50)):
            png = Image.open(io.BytesIO(picture(drawing, "png", Print(width=width, dpi=254))))
            assert png.width == pytest.approx(10 * millimetres, abs=1)
        assert Print().millimetres(chart(shown[:1], "parallel")) == 180

    def test_pdf_and_again_the_same(self, shown) -> None:
        drawing = chart(shown[:1], "progress")
        first = picture(drawing, "pdf", Print(font="serif"))
        assert first.startswith(b"%PDF") and first == picture(drawing, "pdf", Print(font="serif"))
        assert b"STIX" in first
        assert picture(drawing, "svg", Print()) == picture(drawing, "svg", Print())

    def test_the_command(self, folders, tmp_path, monkeypatch, capsys) -> None:
        paths = [str(folder.path) for folder in folders]
        out = tmp_path / "front.html"
        call = ["figure", "pareto", *paths, "--label", "A", "--label", "B", "--out", str(out)]
        _run(monkeypatch, *call)
        assert "plotly" in (page := out.read_text(encoding="utf-8")) and '"name":"B"' in page
        assert capsys.readouterr().out.startswith(f"{out}  (")
        monkeypatch.chdir(tmp_path)
        _run(monkeypatch, "figure", "progress", paths[0], "--width", "60", "--dpi", "60")
        with Image.open(folders[0].path / "progress.png") as picture_:
            assert picture_.width == pytest.approx(60 / 25.4 * 60, abs=1)

    def test_without_matplotlib_html_is_left(self, folders, tmp_path, monkeypatch) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        path = folders[0].path
        with pytest.raises(ConfigError, match=r"html, or pip install 'autosearch\[figures\]'"):
            autosearch.write_figure(path, "pareto", tmp_path / "a.pdf")
        assert autosearch.write_figure(path, "pareto", tmp_path / "a.html").is_file()


def _run(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["autosearch", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["pareta", "DIR"], "did you mean 'pareto'"),
            (["DIR", "pareto"], "expected the kind of figure first"),
            (["pareto", "DIR", "--out", "a.jpg"], "ending in .png, .svg, .pdf, .html"),
            (["pareto", "DIR", "--out", "a.html", "--dpi", "50"], "pages fill a window"),
            (["pareto", "DIR", "--out", "/dev/null/a.png"], "a.png: cannot be written"),
            (["pareto", "DIR", "--width", "wide"], "--width: 'wide' .* 30 to 500 mm, single or"),
            (["pareto", "DIR", "--width", "nan"], "--width: nan"),
            (["pareto", "DIR", "--font-size", "99"], "--font-size: 99.0 .* 4 to 30 points"),
            (["pareto", "DIR", "--font", "mine"], "--font: 'mine' .* sans, serif"),
            (["pareto", "DIR", "--label", "a", "--label", "b"], "one for each of 1 stud"),
            (["pareto", "DIR", "--x", "rwop"], "did you mean 'rwap'"),
            (["pareto", "DIR", "--trial", "3"], "an option of pareto: x, y"),
            (["parallel", "DIR", "SECOND"], "of one study, not of 2"),
            (["pareto", "DIR", "SECOND", "LINK"], "'.*link' .* each study once: .*first is the"),
            (["curves", "DIR", "--trial", "1"], "a trial that left curves"),
            (["thresholds", "DIR", "--trial", "1"], "scores of validation, which earlier"),
            (["thresholds", "DIR", "--trial", "99"], "the number of a trial of first"),
            (["pareto", "EMPTY"], "no trial has values yet, so nothing to draw"),
            (["progress", "EMPTY"], "no trial has values yet, so nothing to draw"),
        ],
    )
    def test_are_one_line(self, folders, refused, tmp_path, arguments, expected):
        places = {"DIR": folders[0].path, "EMPTY": tmp_path / "empty",
                  "SECOND": folders[1].path, "LINK": tmp_path / "link"}  # fmt: skip
        places["LINK"].symlink_to(folders[0].path)
        if "EMPTY" in arguments:
            empty = StudyFolder(places["EMPTY"])
            open_study(empty.trials.storage(), {"gflops": "minimize", "rwap": "maximize"}, {})
            empty.write_spec(folders[0].load_spec())
            empty.write_meta(folders[0].load_meta())
        told = refused(tmp_path, "figure", *[places.get(word, word) for word in arguments])
        assert re.search(expected, told), told

    def test_a_report_of_the_same_study_twice(self, folders, refused, tmp_path) -> None:
        first, second = (folder.path for folder in folders)
        told = refused(tmp_path, "report", first, second, f"{first}/.")
        assert "each study once" in told and not (tmp_path / "report.html").exists()

    def test_other_objectives_cannot_be_compared(self, folders, shown) -> None:
        other = {**shown[1].info, "objectives": shown[1].info["objectives"][:1]}
        with pytest.raises(ConfigError, match="studies of the same objectives"):
            chart([shown[0], Shown(other, *_rest(shown[1]))], "progress")
        with pytest.raises(StudyError, match="no study here"):
            autosearch.figure([folders[0].path, folders[0].path / "no"])
