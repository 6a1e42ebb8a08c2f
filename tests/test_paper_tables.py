"""The front and trials as tables for papers: the terminal's numbers, escaped."""

import re
from collections.abc import Callable

import pytest

from autosearch.api import open_study
from autosearch.cli import main
from autosearch.cli.cells import Cells, chosen_cells, front_cells
from autosearch.cli.console import trial_table
from autosearch.cli.paper import escaped_latex, latex, markdown
from autosearch.cli.show import _paper
from autosearch.errors import StudyError
from autosearch.storage.folder import StudyFolder


@pytest.fixture(scope="module")
def folder(make_study: Callable[..., StudyFolder], tmp_path_factory) -> StudyFolder:
    made = make_study(tmp_path_factory.mktemp("paper") / "paper", 20)
    last = open_study(made.path).front[-1].number
    test = {
        "metrics": {"rwap": 0.25, "ap": 0.5}, "intervals": {"rwap": [0.1, 0.4], "ap": None},
        "types": {}, "fit": "all", "fitted_on": 7, "data": {"images": 3, "counts": {"good": 3}},
        "validation": {"reproduced": True, "metrics": {}},
    }  # fmt: skip
    made.files.write_test(last, test)
    return made


def said(monkeypatch, capsys, *arguments: object) -> str:
    monkeypatch.setattr("sys.argv", ["autosearch", "show", *map(str, arguments)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    return capsys.readouterr().out


class TestEscapes:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("50 % & more", r"50 \% \& more"),
            ("a_b^2#$", r"a\_b\textasciicircum{}2\#\$"),
            (r"C:\x{1}~", r"C:\textbackslash{}x\{1\}\textasciitilde{}"),
            ("rwap ↑ <1>", r"rwap $\uparrow$ \textless{}1\textgreater{}"),
        ],
    )
    def test_latex(self, text: str, expected: str) -> None:
        assert escaped_latex(text) == expected

    def test_tables(self) -> None:
        cells = Cells(
            ["[a]", "b|_c", "d"], [("[1]", "x*y", "0.5"), ("a_b", "-", "1.5 [1, 2]")], ["50 %"]
        )
        assert latex(cells).splitlines() == [
            r"% \usepackage{booktabs}",
            r"\begin{tabular}{llr}",
            r"  \toprule",
            r"  {}[a] & b\textbar{}\_c & d \\",
            r"  \midrule",
            r"  {}[1] & x*y & 0.5 \\",
            r"  a\_b & -- & 1.5 [1, 2] \\",
            r"  \bottomrule",
            r"\end{tabular}",
            "% 50 %",
        ]
        assert markdown(cells).splitlines() == [
            r"| [a] | b\|\_c |          d |",
            r"| --- | ------ | ---------: |",
            r"| [1] | x\*y   |        0.5 |",
            r"| a_b | -      | 1.5 [1, 2] |",
            "",
            "50 %",
        ]


class TestShow:
    def test_numbers_are_those_of_the_terminal(self, folder, monkeypatch, capsys) -> None:
        monkeypatch.setenv("COLUMNS", "400")
        plain = said(monkeypatch, capsys, folder.path)
        table = said(monkeypatch, capsys, folder.path, "--markdown")
        lines = {line.split()[0]: line.split() for line in plain.splitlines() if line.strip()}
        front = open_study(folder.path).front
        for record in front:
            (row,) = re.findall(rf"^\| +{record.number} \| (.*)$", table, re.MULTILINE)
            gflops, total, rwap, tested, configuration = (c.strip() for c in row.split(" | "))
            assert lines[str(record.number)][1:4] == [gflops, total, rwap]
            assert rwap == f"{record.values['rwap']:.4f}" and configuration
            expected = "0.2500 [0.100, 0.400]" if record is front[-1] else "-"
            assert tested == expected
        assert "test: fitted on all 7 normal images" in table

    def test_columns(self, folder, monkeypatch, capsys) -> None:
        wanted = "trial, test.ap,params.width,status,rwap"
        out = said(monkeypatch, capsys, folder.path, "--latex", "--columns", wanted)
        front = open_study(folder.path).front
        assert r"trial & test ap [95 \%] & width & status & rwap $\uparrow$ \\" in out
        for record in front:
            ap = "0.5000 -" if record is front[-1] else "--"
            width, rwap = record.params["width"], record.values["rwap"]
            row = f"  {record.number} & {ap} & {width:.4g} & {record.status} & {rwap:.4f} \\\\"
            assert row in out

    def test_one_trial(self, folder, monkeypatch, capsys) -> None:
        out = said(monkeypatch, capsys, folder.path, "--trial", 0, "--latex")
        record = open_study(folder.path).trial(0)
        assert rf"  values gflops & {record.values['gflops']:.4f} \\" in out
        assert r"\begin{tabular}{ll}" in out and r"\midrule" not in out
        assert trial_table(record).row_count == out.count("\\\\\n")
        out = said(monkeypatch, capsys, folder.path, "--trial", 0, "--markdown", "--columns", "ap")
        assert out.splitlines()[-1].strip("| ") == f"{record.measured['ap']:.4f}"

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["--latex", "--markdown"], "one form alone"),
            (["--markdown", "--json"], "one form alone"),
            (["--columns", "rwap"], "--latex or --markdown beside it"),
            (["--latex", "--columns", "rwop"], "did you mean 'rwap'"),
            (["--latex", "--columns", ","], "names of columns, such as trial"),
        ],
    )
    def test_refusals(self, folder, refused, arguments, expected) -> None:
        assert expected in refused(folder.path, "show", folder.path, *arguments)

    def test_no_front_is_no_table(self, folder) -> None:
        with pytest.raises(StudyError, match="no complete trial, so no table"):
            _paper(open_study(folder.path), [], False, True, None)


def test_the_front_is_a_choice_of_columns(folder: StudyFolder) -> None:
    study = open_study(folder.path)
    of_study = (study.objectives, study.tests, study.spec.dataset.prevalence)
    names = ["trial", "gflops", "total_gflops", "rwap", "test.rwap", "configuration"]
    assert front_cells(study.front, *of_study) == chosen_cells(study.front, names, *of_study)
