"""Fixtures shared by all tests."""

import importlib.util
import io
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from export_parts import Exports
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from PIL import Image
from postgres_server import PostgresServer, what_postgres_lacks
from report_parts import write_odd_study
from supernet_parts import LITE

from autosearch import cli
from autosearch.backbones.supernets.teacher import Teacher
from autosearch.backbones.weights import resolve
from autosearch.contracts.registry import find_space
from autosearch.contracts.trials import SCORED, Outcome, Status
from autosearch.export.trial import Exported
from autosearch.report.page import write_report
from autosearch.spec.reading import load_spec
from autosearch.spec.sections import StudySpec
from autosearch.spec.space import Value
from autosearch.storage.folder import StudyFolder
from autosearch.storage.optuna_study import open_study
from autosearch.study.summary import front

# Checks outside test files say what differed only if asked to.
pytest.register_assert_rewrite("canonical", "faulty", "ray_parts")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real defect images; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("AUTOSEARCH_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}; set AUTOSEARCH_TEST_DATA to their folder")
    return folder.resolve()


@pytest.fixture(scope="session")
def full() -> bool:
    """Whether tests of faults, clusters and long runs shall do all they can, or a sample of it."""
    return bool(os.environ.get("AUTOSEARCH_TEST_FULL"))


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keep the user's cache out of the tests."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["AUTOSEARCH_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks run slower on several threads, far slower where cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run a command in this process that must be refused: `refused(folder, *arguments)`.

    It must end with exit code 2 and one line on standard error, which is returned, and leave the
    folder as it was.
    """

    def run(folder: Path, *arguments: str | Path) -> str:
        before = _listing(folder)
        monkeypatch.setattr(sys, "argv", ["autosearch", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        assert caught.value.code == 2, out + err
        assert err.startswith("error: ") and err.count("\n") == 1 and err.endswith("\n"), err
        assert len(err) < 2000 and err[:-1].isprintable() and "Traceback" not in out
        assert _listing(folder) == before
        return err

    return run


def _listing(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Kind, size and time of all that is in a folder; nothing is opened, and no link followed."""
    found = {str(path): path.lstat() for path in folder.rglob("*")} if folder.is_dir() else {}
    return {name: (f.st_mode, f.st_size, f.st_mtime_ns) for name, f in found.items()}


@pytest.fixture(scope="module")
def teacher_state() -> dict[str, torch.Tensor]:
    """Tensors of the backbone that supernets learn from."""
    return resolve(LITE, "bundled", 0).state


@pytest.fixture(scope="module")
def teacher(teacher_state: dict[str, torch.Tensor]) -> Teacher:
    """It itself; who trains with it may change its layout in memory, and so its last digits."""
    return Teacher(LITE, teacher_state)


@pytest.fixture(scope="session")
def make_study() -> Callable[..., StudyFolder]:
    """Write a study's folder without evaluating anything: `make_study(path, trials, seed=0)`."""
    return _make_study


def _make_study(path: Path, trials: int, seed: int = 0, space: str = "autopatch") -> StudyFolder:
    """A study of the given space with trials of every status and made-up values."""
    name = path.name if re.fullmatch(r"[\w.-]+", path.name) else "odd"
    spec = load_spec(find_space(space), [f"study.name={name}", f"study.trials={trials}"])
    folder = StudyFolder(path)
    study = open_study(folder.trials.storage(), {"gflops": "minimize", "rwap": "maximize"}, {})
    folder.write_spec(spec)
    weights = {
        "name": "ofa_mbv3_d234_e346_k357_w1.0",
        "source": "random",
        "sha256": "0" * 64,
        "note": "made up",
    }
    counts = {"train": {"good": 20}, "val": {"crack": 1, "good": 5}}
    data = {"name": "demo", "category": "brick", "root": "x", "counts": counts, "sha256": "1" * 64}
    data |= {"image_size": 224, "resize_rule": "bilinear", "mask_rule": "nearest"}
    data |= {"rule": "1 per anomaly type for validation", "synthetic": True}
    meta = {"autosearch": "0.1.0", "written": "2026-01-01T00:00:00+00:00", "seed": seed}
    folder.write_meta({**meta, "data": data, "weights": [weights], "packages": {"torch": "2.14"}})
    study.add_trials([_trial(spec, number, seed) for number in range(trials)])
    failed = [r for r in folder.trials.records() if r.status == Status.FAILED][:3]
    for record in failed:
        outcome = Outcome(Status.FAILED, traceback="Traceback (most recent call last): <script>")
        folder.files.write_outcome(record.number, outcome)
    for record in front(folder.trials.records(), {"gflops": "minimize", "rwap": "maximize"}):
        picture = io.BytesIO()
        Image.new("RGB", (484, 328), (record.number % 256, 90, 120)).save(picture, "JPEG")
        folder.files.write_outcome(
            record.number, Outcome(Status.COMPLETE, artifacts={"maps.jpg": picture.getvalue()})
        )
    return folder


def _trial(spec: StudySpec, number: int, seed: int) -> optuna.trial.FrozenTrial:
    draw = np.random.default_rng((seed, number))
    drawn = _Draw(draw)
    params = spec.parsed_space.suggest(drawn)
    status = Status(draw.choice([*["complete"] * 14, "failed", "infeasible", "pruned", "cached"]))
    if number == 0:
        status = Status.COMPLETE
    gflops = float(draw.uniform(0.05, 0.6))
    rwap = float(0.5 * (1 - np.exp(-8 * gflops)) * draw.uniform(0.6, 1.0))
    attributes: dict[str, Any] = {"status": str(status), "canonical": params}
    if status in SCORED:
        attributes |= {"gmacs": gflops / 2, "ap": rwap * 0.9, "search_gflops": 3.0, "seconds": {}}
        attributes |= {"cached_from": 0} if status == Status.CACHED else {}
    else:
        attributes |= {"reason": f"{status} on purpose <b>"}
    state = optuna.trial.TrialState.COMPLETE if status in SCORED else optuna.trial.TrialState.FAIL
    return optuna.trial.create_trial(
        state=state,
        values=[gflops, rwap] if status in SCORED else None,
        params=params,
        distributions=drawn.distributions,
        user_attrs=attributes,
    )


class _Draw:
    """Draws parameters evenly and keeps their distributions, as Optuna wants them."""

    def __init__(self, draw: np.random.Generator) -> None:
        self._draw = draw
        self.distributions: dict[str, BaseDistribution] = {}

    def suggest_categorical(self, name: str, choices: Sequence[Value]) -> Value:
        self.distributions[name] = CategoricalDistribution(choices)
        return choices[int(self._draw.integers(len(choices)))]

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        self.distributions[name] = IntDistribution(low, high, log=log, step=step)
        return int(self._draw.choice(range(low, high + 1, step)))

    def suggest_float(self, *_: Any, **__: Any) -> float:
        raise NotImplementedError("no space of these tests has a continuous range")


@pytest.fixture(scope="session")
def odd_study(
    make_study: Callable[..., StudyFolder], tmp_path_factory: pytest.TempPathFactory
) -> StudyFolder:
    """A study of 80 made-up trials, in which much that is only text looks like markup."""
    return write_odd_study(make_study, tmp_path_factory.mktemp("odd"))


@pytest.fixture(scope="session")
def odd_report(odd_study: StudyFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of it."""
    return write_report([odd_study], tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """Nothing yet: only a test may ask for more, when it computes with one thread."""
    return Exports(tmp_path_factory.mktemp("exports"))


@pytest.fixture
def exported_study(exports: Exports) -> StudyFolder:
    """A study of one trial of AutoPatch; no test changes it."""
    return exports.study


@pytest.fixture
def plain_export(exports: Exports) -> Exported:
    """The trial of it, exported as it is."""
    return exports.plain


@pytest.fixture
def small_export(exports: Exports) -> Exported:
    """Another trial, of a fixed backbone, exported with a smaller bank and in half precision."""
    return exports.small


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A headless Chromium for all tests; use `browser`, which starts every test afresh."""
    found: dict[str, Any] = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    found["selenium"] = importlib.util.find_spec("selenium")
    missing = [name for name, there in found.items() if there is None]
    if missing:
        reason = f"no {' and no '.join(missing)} here, so pages cannot be tried"
        if os.environ.get("AUTOSEARCH_REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = found["chromium"]
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(found["chromedriver"]))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium: Any) -> Any:
    """Selenium's driver of a headless Chromium: empty page, 1440 x 900, light, empty log."""
    chromium.get("about:blank")
    light = {"features": [{"name": "prefers-color-scheme", "value": "light"}]}
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", light)
    metrics = {"width": 1440, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    chromium.get_log("browser")
    return chromium


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL for all tests; use `postgres`, which makes sure that it runs."""
    if missing := what_postgres_lacks():
        reason = f"no {' and no '.join(missing)} here, so no database can be started"
        if os.environ.get("AUTOSEARCH_REQUIRE_POSTGRES"):
            pytest.fail(reason)
        pytest.skip(reason)
    # Not in pytest's folder, which is for its own user alone.
    folder = Path(tempfile.mkdtemp(prefix="autosearch-pg-"))
    server = PostgresServer(folder)
    server.start()
    yield server
    server.stop(signal.SIGQUIT)
    shutil.rmtree(folder)


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    """A running PostgreSQL; a test may stop and start it."""
    yield postgres_server
    if not postgres_server.running:
        postgres_server.start()
