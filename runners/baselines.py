"""One space over several methods: which of them, for this part, at which cost?

The method is a parameter, and each method's own parameters have its name in front, such as
``glass/lr``. All that is built is built by the method's own runner.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autosearch.contracts import Detector, ParameterInfo, Runner, TrialContext
from autosearch.spec import Params, StudySpec

from .autoencoder.runner import AutoEncoderRunner
from .autopatch import AutoPatchRunner
from .csflow.runner import CsFlowRunner
from .draem.runner import DraemRunner
from .fastflow.runner import FastFlowRunner
from .glass.runner import GlassRunner
from .parameters import drawn
from .patchcore import PatchCoreRunner
from .reverse_distillation.runner import ReverseDistillationRunner
from .uniad.runner import UniADRunner

METHODS: dict[str, type[Runner]] = {
    "autoencoder": AutoEncoderRunner,
    "autopatch": AutoPatchRunner,
    "csflow": CsFlowRunner,
    "draem": DraemRunner,
    "fastflow": FastFlowRunner,
    "glass": GlassRunner,
    "patchcore": PatchCoreRunner,
    "reverse_distillation": ReverseDistillationRunner,
    "uniad": UniADRunner,
}
_METHOD = "method"


def _parameters() -> dict[str, ParameterInfo]:
    known = {_METHOD: ParameterInfo("patchcore", "which runner builds it", choices=tuple(METHODS))}
    for method, runner in METHODS.items():
        known |= {f"{method}/{name}": info for name, info in runner.parameters.items()}
    return known


class BaselinesRunner(Runner):
    """Searches the method together with its parameters."""

    description = "one of several methods, each with its own parameters: which, at which cost?"
    reads = frozenset[str]().union(*(runner.reads for runner in METHODS.values()))
    parameters = _parameters()
    post_parameters = frozenset(
        f"{method}/{name}" for method, runner in METHODS.items() for name in runner.post_parameters
    )

    def __init__(self, spec: StudySpec) -> None:
        """Load what the methods need that the space may draw."""
        super().__init__(spec)
        names = map(str, drawn(spec, _METHOD, self.parameters[_METHOD].default))
        self._runners = {name: METHODS[name](_spec_of(spec, name)) for name in names}

    def canonical(self, params: Params) -> Params:
        """See `Runner.canonical`: the method, and its own canonical form."""
        method = self._method(params)
        own = self._runners[method].canonical(_stripped(params, method))
        return {_METHOD: method, **{f"{method}/{name}": value for name, value in own.items()}}

    def build(self, params: Params, context: TrialContext) -> Detector:
        """See `Runner.build`."""
        method = self._method(params)
        return self._runners[method].build(_stripped(params, method), context)

    def post_of(self, canonical: Params) -> frozenset[str]:
        """See `Runner.post_of`: the method's own."""
        method = self._method(canonical)
        names = self._runners[method].post_of(_stripped(canonical, method))
        return frozenset(f"{method}/{name}" for name in names)

    def weights(self) -> list[dict[str, str]]:
        """See `Runner.weights`; what several methods start from is named once."""
        found: dict[tuple[str, str], dict[str, str]] = {}
        for runner in self._runners.values():
            found |= {(one["name"], one["sha256"]): one for one in runner.weights()}
        return list(found.values())

    def _method(self, params: Params) -> str:
        return str(params.get(_METHOD, self.parameters[_METHOD].default))


def _stripped(values: Mapping[str, Any], method: str) -> dict[str, Any]:
    """What stands under a method's name, without it."""
    front = f"{method}/"
    return {name[len(front) :]: value for name, value in values.items() if name.startswith(front)}


def _spec_of(spec: StudySpec, method: str) -> StudySpec:
    """A study as one of its methods would search it alone."""
    space: dict[str, Any] = {}
    for name, content in _stripped(spec.space, method).items():
        if isinstance(content, Mapping) and "when" in content:
            when = _stripped(content["when"], method)
            rest = {key: value for key, value in content.items() if key != "when"}
            content = {**rest, "when": when} if when else rest
        space[name] = content
    if not space:  # A space has a parameter, if only at its default.
        known = METHODS[method].parameters
        name = next(name for name, info in known.items() if not info.text)
        space[name] = [known[name].default]
    study = spec.study.model_copy(update={"runner": method})
    return spec.model_copy(update={"study": study, "space": space, "start": []})
