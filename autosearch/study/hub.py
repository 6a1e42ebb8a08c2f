"""Samplers of OptunaHub that lie on this machine; nothing is fetched."""

from __future__ import annotations

import importlib
import inspect
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from autosearch.errors import ConfigError, StudyError
from autosearch.files import user_path
from autosearch.spec import SamplerSpec, Space, StudySpec
from autosearch.study.distributions import distributions

_FETCHED = ("github.com", "optuna", "optunahub-registry", "main")
"""Below the cache of `optunahub`, what it fetches unless told otherwise."""

_PROBED = 3
"""Trials of no cost that a sampler proposes before it is taken."""


class ForeignSampler(BaseSampler):
    """A sampler of OptunaHub, whose errors end a search in one line.

    Unlike Optuna's own here it lives as long as the process: what it has learnt may lie in it
    alone. A search that was stopped and goes on may therefore propose otherwise than one that was
    not; from then on it draws from another seed.

    Args:
        kind: Its class.
        spec: Its options, and how it is called.
        known: What is drawn from; None for a space with conditions.
        constrained: Whether trials can break constraints.
        seed: For its draws.

    Raises:
        ConfigError: The class does not take the options.
    """

    def __init__(
        self,
        kind: type[BaseSampler],
        spec: SamplerSpec,
        known: Mapping[str, BaseDistribution] | None,
        constrained: bool,
        seed: int,
    ) -> None:
        self._name = spec.name
        keywords = _keywords(kind, known, constrained, seed)
        try:
            with _quiet():
                self._inner = kind(**spec.options, **keywords)
        except Exception as error:
            signature = inspect.signature(kind.__init__)
            names = [name for name in list(signature.parameters)[1:] if name not in keywords]
            allowed = f"keywords of {kind.__name__}: {', '.join(names)} ({_line(error)})"
            raise ConfigError("sampler.options", dict(spec.options), allowed) from None

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Parameters that are drawn together."""
        found: dict[str, BaseDistribution] = self._ask("infer_relative_search_space", study, trial)
        return found

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw parameters together."""
        found: dict[str, Any] = self._ask("sample_relative", study, trial, search_space)
        return found

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, name: str, distribution: BaseDistribution
    ) -> Any:
        """Draw one parameter by itself."""
        return self._ask("sample_independent", study, trial, name, distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Let the sampler prepare."""
        self._ask("before_trial", study, trial)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Let the sampler take note of a result."""
        self._ask("after_trial", study, trial, state, values)

    def _ask(self, method: str, *arguments: Any) -> Any:
        try:
            with _quiet():
                return getattr(self._inner, method)(*arguments)
        except Exception as error:
            raise StudyError(f"the sampler {self._name} failed: {_line(error)}") from error


def check_hub_sampler(spec: StudySpec, directions: Sequence[str]) -> None:
    """Refuse a sampler of OptunaHub that is not here, or is not for such a study.

    Args:
        spec: The study; one of Optuna's own samplers passes.
        directions: Of its objectives.

    Raises:
        ConfigError: It cannot be loaded, takes other options, knows no constraints, or cannot
            propose for so many objectives in such a space, which three trials of no cost show.
    """
    if spec.sampler.package is None:
        return
    space, constrained = spec.parsed_space, bool(spec.constraints)
    kind = load_kind(spec.sampler)
    if constrained and not _knows_constraints(kind):
        allowed = "a sampler that knows constraints: its class would take a constraints_func"
        raise ConfigError("sampler.name", spec.sampler.name, allowed)
    sampler = ForeignSampler(kind, spec.sampler, distributions(space), constrained, 0)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ways = [StudyDirection[way.upper()] for way in directions]
    study = optuna.create_study(directions=ways, sampler=sampler)
    try:
        for number in range(_PROBED):
            trial = study.ask()
            space.suggest(trial)
            if constrained:
                trial.set_constraint("probe", float(number - 1))
            study.tell(trial, [float(number)] * len(directions))
    except (StudyError, ValueError) as error:
        many = f"{len(directions)} objectives" if len(directions) > 1 else "one objective"
        allowed = f"a sampler for {many} in this space ({_line(error)})"
        raise ConfigError("sampler.name", spec.sampler.name, allowed) from None


def load_kind(spec: SamplerSpec) -> type[BaseSampler]:
    """The class of a sampler of OptunaHub.

    Raises:
        ConfigError: `optunahub` or the package is not here, or the package has no such class.
    """
    assert spec.package is not None
    package, wanted = spec.package
    hub = _optunahub(spec.name)
    folder = _registry(spec, hub)
    if not (folder / "samplers" / package / "__init__.py").is_file():
        allowed = f"a sampler below {folder / 'samplers'}"
        if spec.registry is None:
            command = f"import optunahub; optunahub.load_module('samplers/{package}')"
            allowed = f'a sampler that was fetched; to do so: python -c "{command}"'
        raise ConfigError("sampler.name", spec.name, allowed)
    try:
        module = hub.load_local_module(f"samplers/{package}", registry_root=str(folder))
    except Exception as error:
        allowed = f"a package that can be loaded ({_line(error)}); {folder} holds its README"
        raise ConfigError("sampler.name", spec.name, allowed) from None
    kinds = _kinds(module)
    if wanted is not None and wanted in kinds:
        return kinds[wanted]
    if wanted is None and len(kinds) == 1:
        return next(iter(kinds.values()))
    names = ", ".join(f"hub/{package}:{name}" for name in kinds) or "a package with a sampler"
    raise ConfigError("sampler.name", spec.name, names)


def foreign_maker(
    spec: SamplerSpec, space: Space, constrained: bool
) -> Callable[[int], ForeignSampler]:
    """What makes a sampler of OptunaHub of a seed once, and gives the same one ever after.

    Raises:
        ConfigError: See `load_kind`.
    """
    kind, known = load_kind(spec), distributions(space)
    made: list[ForeignSampler] = []

    def make(seed: int) -> ForeignSampler:
        if not made:
            made.append(ForeignSampler(kind, spec, known, constrained, seed))
        return made[0]

    return make


def _optunahub(name: str) -> Any:
    try:
        # It looks for git, of which nothing here makes use.
        with patch.dict(os.environ, {"GIT_PYTHON_REFRESH": "quiet"}):
            return importlib.import_module("optunahub")
    except ImportError as error:
        allowed = f"optunahub installed ({_line(error)}): pip install 'autosearch[hub]'"
        raise ConfigError("sampler.name", name, allowed) from None


def _registry(spec: SamplerSpec, hub: Any) -> Path:
    """The folder that has ``samplers`` in it, whether or not it is there."""
    if spec.registry is None:
        return Path(hub._conf.cache_home(), *_FETCHED, "package")
    folder = user_path(spec.registry, "sampler.registry").resolve()
    # A clone of a registry has its packages one folder below.
    return folder / "package" if (folder / "package" / "samplers").is_dir() else folder


def _kinds(module: Any) -> dict[str, type[BaseSampler]]:
    """Samplers that a package shows; those of Optuna's that it makes use of are none."""
    names = getattr(module, "__all__", None) or vars(module)
    found = {name: getattr(module, name, None) for name in names}
    return {
        name: kind
        for name, kind in found.items()
        if isinstance(kind, type)
        and issubclass(kind, BaseSampler)
        and not inspect.isabstract(kind)
        and kind.__module__.partition(".")[0] not in ("optuna", "optunahub")
    }


def _keywords(
    kind: type[BaseSampler],
    known: Mapping[str, BaseDistribution] | None,
    constrained: bool,
    seed: int,
) -> dict[str, Any]:
    """What a class is given that follows from the study."""
    named = _named(kind)
    keywords: dict[str, Any] = {"seed": seed} if "seed" in named else {}
    simple = importlib.import_module("optunahub").samplers.SimpleBaseSampler
    if issubclass(kind, simple) and "search_space" in named and known is not None:
        keywords["search_space"] = dict(known)
    # Optuna's own, and what derives from them, read what `Trial.set_constraint` was told.
    if constrained and "constraints_func" in named and not _reads_constraints(kind):
        keywords["constraints_func"] = _violation
    return keywords


def _violation(trial: FrozenTrial) -> tuple[float]:
    """All constraints of a trial as one number, above 0 where any is broken."""
    values = list(trial.constraints.values())
    broken = sum(value for value in values if value > 0)
    return (broken or max(values, default=0.0),)


def _named(kind: type) -> set[str]:
    return set(inspect.signature(kind.__init__).parameters)  # type: ignore[misc]


def _reads_constraints(kind: type[BaseSampler]) -> bool:
    ours = (base for base in kind.__mro__ if base.__module__.partition(".")[0] == "optuna")
    return any("constraints_func" in _named(base) for base in ours)


def _knows_constraints(kind: type[BaseSampler]) -> bool:
    return any("constraints_func" in _named(base) for base in kind.__mro__)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what is experimental, or will be other some day, to whoever wrote it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
