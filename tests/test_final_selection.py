"""Selection never sees the test split, nor what was found on it."""

import ast
import shutil
from pathlib import Path

from final_parts import search_in

from autosearch.executors.local import LocalExecutor
from autosearch.storage.folder import StudyFolder
from autosearch.study import session
from autosearch.study.inputs import load_inputs

ROOT = Path(__file__).resolve().parents[1]

MAY_LOAD_THE_TEST_SPLIT = {
    "data/load.py", "study/answer.py", "study/evaluate.py", "study/invariance.py",
}  # fmt: skip
SELECT = ("contracts", "executors", "memory", "metrics", "study", "spec", "synthesis")
_AFTER = ("answer", "correlation", "evaluate", "final", "invariance", "paired")
AFTER_THE_CHOICE = {f"study/{name}.py" for name in _AFTER}
READ = {"load_tests", "write_test", "TEST", "test.json"}
READ |= {"load_resamples", "write_resamples", "RESAMPLES", "resamples.npz"}


class TestSelection:
    def test_only_evaluate_loads_the_test_split(self) -> None:
        for path in sorted((ROOT / "autosearch").rglob("*.py")):
            name = path.relative_to(ROOT / "autosearch").as_posix()
            assert name in MAY_LOAD_THE_TEST_SPLIT or "load_test_set" not in names_in(path), name
        for path in (ROOT / "runners").rglob("*.py"):
            assert "load_test_set" not in names_in(path), path.name

    def test_nothing_that_selects_reads_test_figures(self) -> None:
        home = ROOT / "autosearch"
        files = {
            p.relative_to(home).as_posix(): p for n in SELECT for p in (home / n).glob("*.py")
        }
        assert files.keys() > AFTER_THE_CHOICE and "study/recommendation.py" in files
        for path in (p for name, p in files.items() if name not in AFTER_THE_CHOICE):
            assert not names_in(path) & READ, path

    def test_a_search_goes_on_as_if_there_were_none(self, tmp_path: Path) -> None:
        plain = search_in(tmp_path)
        folder = StudyFolder(Path(shutil.copytree(plain.path, tmp_path / "evaluated")))
        for record in folder.trials.records():
            path = folder.files.path(record.number) / "test.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("not even JSON")
        ends = []
        for study in (plain, folder):
            spec = study.load_spec()
            more = spec.study.model_copy(update={"trials": 6})
            inputs = load_inputs(spec.model_copy(update={"study": more}))
            driver = session.open_driver(inputs, study)
            session.run(inputs, study, driver, LocalExecutor())
            ends.append([(r.params, r.values) for r in study.trials.records()])
        assert ends[0] == ends[1] and len(ends[0]) == 6


def names_in(path: Path) -> set[str]:
    """Every identifier, attribute, imported name and string of a module."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.alias):
            found.add(node.name.rpartition(".")[2])
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found
