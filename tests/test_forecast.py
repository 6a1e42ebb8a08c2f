"""What memory and time a trial takes, told beforehand to who has many images."""

from pathlib import Path
from typing import Any

import pytest
from autosearch_runners.bank import timing
from bank_parts import PLACES, built
from dataset_parts import command, sound_dataset, spec as dataset_spec

from autosearch.api import foretell_trial
from autosearch.cli.console import provenance
from autosearch.cli.forecast import forecast_text
from autosearch.contracts import TiledDetector, registry
from autosearch.data import TileGrid, load
from autosearch.spec import Params, load_spec
from autosearch.study import forecast as foretelling, inputs as loading
from autosearch.study.evaluation import build, needed_memory
from autosearch.study.inputs import load_inputs

GIVEN = ["backbone.weights=random", "resources.gpu=0"]
BEST = (("kernel_size", 7), ("expand_ratio", 6))


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Whatever is timed for a bank takes a second; how often that was is counted.

    To choose one patch takes a second too, and to choose more another.
    """
    calls, chosen = [], [1]

    def choose(patches: Any, *, count: int) -> None:
        chosen.append(count)

    def measured(call: Any, **options: Any) -> float:
        call()
        calls.append(1)
        return 1e3 if chosen[-1] == 1 else 2e3

    monkeypatch.setattr(timing, "coreset", choose)
    monkeypatch.setattr(timing, "measure_latency", measured)
    return calls


class TestSeconds:
    """Passes of 4 images, a search of one in 20,000 rows, 512 of 20,000 patches chosen."""

    @pytest.mark.parametrize(
        ("params", "passes", "stored", "compared", "pool", "pairs"),
        [
            ({}, 1010, PLACES * 1000, PLACES * 1000, 0, 0),
            (
                {"coreset_method": "random", "coreset_ratio": 0.1},
                1010, PLACES * 100, PLACES * 100, 0, 0,
            ),
            (
                {"coreset_method": "kcenter", "coreset_ratio": 0.1, "coreset_pool": 9000},
                1010, PLACES * 100, PLACES * 100, 9000, PLACES * 100 * 9000,
            ),
            (
                {"coreset_method": "kcenter", "coreset_ratio": 0.5, "coreset_pool": 9000},
                1010, PLACES * 500, PLACES * 500, 0, 0,
            ),
            ({"bank_augment": "flips"}, 3010, PLACES * 3000, PLACES * 3000, 0, 0),
            ({"window": 1}, 1010, PLACES * 1000, 9 * 1000, 0, 0),
            (
                {"window": 1, "rows_per_place": 20, "coreset_method": "kcenter",
                 "coreset_pool": PLACES * 100},
                1010, PLACES * 20, 9 * 20, PLACES * 100, PLACES * 20 * 100,
            ),
            ({"neighbour_images": 50}, 1010, PLACES * 1000, PLACES * 50, 0, 0),
        ],
    )  # fmt: skip
    def test_are_scaled_from_what_was_timed(
        self,
        timed: list[int],
        params: Params,
        passes: int,
        stored: int,
        compared: int,
        pool: int,
        pairs: int,
    ) -> None:
        detector = built({"coreset_ratio": 1.0, **params})
        search = 10 * compared / min(stored, 20_000)
        expected = passes / 4 + search + pool / 20_000 + pairs / (20_000 * 512)
        assert detector.seconds(1000, 10) == pytest.approx(expected)
        assert len(timed) == (4 if pairs else 2)

    def test_of_tiles(self) -> None:
        class Timed:
            top_share = None

            def seconds(self, fitted: int, asked: int) -> float | None:
                return fitted + 100.0 * asked

        grid = TileGrid((64, 64), (32, 32), (0, 16, 32), (0, 32))
        parts: list[Any] = [Timed() for _ in range(6)]
        assert TiledDetector(grid, parts[:1]).seconds(5, 2) == 6 * 5 + 100 * 6 * 2
        assert TiledDetector(grid, parts).seconds(5, 2) == 6 * (5 + 100 * 2)
        parts[0].seconds = lambda fitted, asked: None
        assert TiledDetector(grid, parts).seconds(5, 2) is None
        assert TiledDetector(grid, parts[:1]).seconds(5, 2) is None


def test_is_of_the_first_configuration_of_a_study(
    timed: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dataset = dataset_spec(sound_dataset(tmp_path / "part").parent)
    # The runner's default of the width is another one.
    plain = load_spec(registry.find_space("autopatch_fixed"), GIVEN)
    spec = plain.model_copy(update={"dataset": dataset})
    listed = []

    def counted(dataset: Any) -> Any:
        listed.append(dataset)
        return opened(dataset)

    opened = loading.open_index
    for module in (loading, load):
        monkeypatch.setattr(module, "open_index", counted)
    inputs = load_inputs(spec)
    assert len(listed) == 1, "files are listed once"
    assert "memory" not in inputs.meta() and inputs.memory() is None
    monkeypatch.setattr(foretelling, "LARGE", 0)
    train, val = inputs.data.train, inputs.data.val
    found = inputs.memory()
    assert found is not None and len(timed) >= 2
    first = {"width": 1.2, **{f"stage{s}.{name}": value for s in range(5) for name, value in BEST}}
    detector = build(inputs.spec, inputs.runner, inputs.runner.canonical(first), 0, val)
    wanted = needed_memory(detector, len(train), val.masks.size)
    assert found["pictures"] == train.pixels.nbytes + val.pixels.nbytes
    assert found["trial"] == wanted == detector.memory(len(train)) + 16 * val.masks.size
    again = detector.seconds(len(train), len(val))
    assert again is not None
    assert found["seconds"] == pytest.approx(again + 3e-7 * val.masks.size)


class TestCheck:
    def test_tells_of_many_images(
        self,
        tmp_path: Path,
        timed: list[int],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        root = sound_dataset(tmp_path / "part").parent
        asked = {"image_size": 32, "validation": {"synthetic": {"per_image": 3}}}
        overrides = ["image_size=32", "validation.synthetic={per_image: 3}"]
        assert foretell_trial(root, "part", overrides) is None
        monkeypatch.setattr(foretelling, "LARGE", 0)
        found = foretell_trial(root, "part", overrides)
        data = load_inputs(
            load_spec(registry.find_space("autopatch")).model_copy(
                update={"dataset": dataset_spec(root, **asked)}
            )
        ).data
        assert found is not None and found.trial is not None and found.seconds is not None
        assert found.pictures == data.train.pixels.nbytes + data.val.pixels.nbytes
        code, out = command(capsys, "data", "check", root, "part", "--set", overrides[0])
        assert code == 0 and "in a shared file; a trial of autopatch about" in out
        assert foretell_trial(root, "part", ["image_size=32", "validation.normal=99"]) is None

    def test_is_silent_about_few(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        root = sound_dataset(tmp_path / "part").parent
        code, out = command(capsys, "data", "check", root)
        assert code == 0 and "a trial" not in out


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 s"), (7.4, "7 s"), (44.0, "40 s"), (119.0, "100 s"), (130.0, "2.2 min"),
        (3000.0, "50 min"), (9000.0, "2.5 h"),
    ],
)  # fmt: skip
def test_in_words(seconds: float, text: str) -> None:
    plain = {"pictures": 2_000_000_000, "trial": 3_100_000_000, "seconds": seconds}
    before = "pictures 2.0 GB, in a shared file"
    told = forecast_text(plain, "autopatch")
    assert told == f"{before}; a trial of autopatch about 3.1 GB, and about {text} on this machine"
    (line,) = provenance({"memory": plain})
    assert line == f"memory   {before}; a trial about 3.1 GB, and about {text}"
    assert forecast_text({"pictures": 2_000_000_000}) == before
