"""A choice with fewer values on the command line takes what hung on the others with it."""

from typing import Any

import pytest

from autosearch.contracts import registry
from autosearch.errors import ConfigError
from autosearch.spec import load_spec

SPACE: dict[str, Any] = {
    "kind": ["a", "b", "c"],
    "of_a": {"choice": [1, 2], "when": {"kind": "a"}},
    "of_both": {"int": [1, 3], "when": {"kind": ["a", "b"]}},
    "below_of_a": {"choice": [1, 2], "when": {"of_a": [1]}},
    "always": [1, 2],
}


def space(*overrides: str, **changed: Any) -> dict[str, Any]:
    content = {"study": {"runner": "autopatch"}, "objectives": ["rwap"], "space": SPACE | changed}
    return dict(load_spec(content, overrides).space)


def test_what_can_no_longer_exist_is_left_out() -> None:
    """With what depends on it, and without a word about values that others have."""
    found = space("space.kind=[b]")
    assert list(found) == ["kind", "of_both", "always"]
    assert found["of_both"]["when"] == {"kind": ["b"]}
    assert list(space("space.kind=[c]")) == ["kind", "always"]
    assert space("space.kind=[a, b]") == SPACE | {"kind": ["a", "b"]}
    assert space() == SPACE == space("study.seed=3")


def test_mistakes_are_still_told() -> None:
    """Of the file alone, of what the command line says itself, of forms that cannot be read."""
    wrong = {"choice": [1], "when": {"kind": ["d"]}}
    for overrides, changed in (
        ([], {"more": wrong}),
        (["space.always=[1]"], {"more": wrong}),
        (["space.kind=[b]", "space.of_a={choice: [1], when: {kind: [a]}}"], {}),
        (["space.kind={int: [1]}"], {}),
        (["space.kind=[b]"], {"more": {"choice": [1], "when": {"knd": ["b"]}}}),
    ):
        with pytest.raises(ConfigError):
            space(*overrides, **changed)


@pytest.mark.parametrize(
    ("name", "override"),
    [
        ("baselines", "space.method=[patchcore, fastflow]"),
        ("foundation", "space.backbone=[tf_efficientnet_lite0, tf_efficientnet_lite1]"),
    ],
)
def test_bundled_spaces_can_be_narrowed(name: str, override: str) -> None:
    spec = load_spec(registry.find_space(name), [override])
    assert spec.configurations and len(spec.space) < len(
        load_spec(registry.find_space(name)).space
    )
