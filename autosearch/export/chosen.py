"""What of a study is exported: a trial, or several as one detector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from autosearch.contracts import (
    PREPROCESS,
    SCORED,
    Detector,
    Scales,
    StagedRunner,
    TrialRecord,
    called,
    ensemble_name,
)
from autosearch.data import ImageSet
from autosearch.errors import AutosearchError, ConfigError, StudyError
from autosearch.graphs import TooLarge
from autosearch.spec import Params
from autosearch.storage import StudyFolder
from autosearch.study import (
    Inputs,
    build,
    fitted_ensemble,
    members_of,
    of_first_run,
    threads_of,
)


def records_of(
    folder: StudyFolder, trial: int | None, ensemble: Sequence[int]
) -> list[TrialRecord]:
    """The trial, or those of an ensemble, as their first runs left them.

    Raises:
        ConfigError: Both are given or neither is, or the numbers make no ensemble.
        StudyError: There is no such trial, or it has no values.
    """
    if (trial is None) == (not ensemble):
        given = f"trial {trial} and ensemble {list(ensemble)}"
        raise ConfigError("export", given, "one trial, or the trials of one ensemble")
    if trial is None:
        return members_of(folder, ensemble)
    records = folder.trials.records()
    if not trial < len(records):
        raise StudyError(f"{folder.path}: no trial {trial}; there are {len(records)}")
    record = records[trial]
    if record.status not in SCORED:
        why = f": {record.reason}" if record.reason else ""
        raise StudyError(f"trial {trial} is {record.status}{why}")
    return [of_first_run(record, folder.files.load_runs(record.origin))]


@dataclass(frozen=True)
class Chosen:
    """Trials to be exported as one model.

    Attributes:
        inputs: What the study was made from.
        records: One, or the members of an ensemble.
        configurations: Canonical ones to export, of each.
    """

    inputs: Inputs
    records: Sequence[TrialRecord]
    configurations: Sequence[Params]

    @classmethod
    def of(cls, inputs: Inputs, records: Sequence[TrialRecord], coreset: float | None) -> Chosen:
        """See `exported_configuration`.

        Raises:
            ConfigError: Members of an ensemble preprocess pictures differently, or as there.
        """
        made = [exported_configuration(inputs, record, coreset) for record in records]
        ways = {str(one.get(PREPROCESS, "none")) for one in made}
        if len(ways) > 1 and isinstance(inputs.runner, StagedRunner):
            numbers = ",".join(str(record.number) for record in records)
            allowed = f"trials of one {PREPROCESS}, as a graph is given one picture; these have "
            raise ConfigError("--ensemble", numbers, f"{allowed}{' and '.join(sorted(ways))}")
        return cls(inputs, records, made)

    def fitted(self, images: ImageSet, scales: Sequence[Scales] = ()) -> Detector:
        """Build and fit the detector; see `fitted_ensemble` of ``scales``."""
        if len(self.records) > 1:
            return fitted_ensemble(self.inputs, self.records, images, scales, self.configurations)
        (record,), (canonical,), inputs = self.records, self.configurations, self.inputs
        detector = build(
            inputs.spec, inputs.runner, canonical, self._seed(record), inputs.data.val
        )
        with threads_of(record):
            detector.fit(images)
        return detector

    @contextmanager
    def in_one_file(self, kind: str, half: bool) -> Iterator[None]:
        """Say what can help where a graph of this kind passes what one file holds.

        Args:
            kind: A format that has no file of tensors beside the graph.
            half: Whether large tensors are in half precision already.

        Raises:
            TooLarge: Names ``--coreset`` only where every trial has a bank that it makes smaller.
        """
        try:
            yield
        except TooLarge as error:
            remedies = ["--coreset with a smaller share"] if self._have_banks() else []
            remedies += [] if half else ["--half"]
            remedies.append("--format onnx or openvino, whose tensors may lie in another file")
            allowed = f"a graph of at most 2 GB, and not of {error.value}; what can help: "
            raise TooLarge("--format", kind, allowed + "; ".join(remedies)) from None

    def _have_banks(self) -> bool:
        try:
            for record in self.records:
                exported_configuration(self.inputs, record, 1.0)
        except AutosearchError:
            return False
        return True

    def recorded(self) -> dict[str, Any]:
        """What the search says of a trial; nothing of an ensemble."""
        if len(self.records) > 1:
            return {}
        return {**self.records[0].values, **self.records[0].measured}

    def of_study(self) -> dict[str, Any]:
        """The trial's number and seed, which an ensemble lacks."""
        if len(self.records) > 1:
            return {"trial": None, "trial_seed": None}
        return {"trial": self.records[0].number, "trial_seed": self._seed(self.records[0])}

    def described(self, folder: StudyFolder, scales: Sequence[Scales]) -> dict[str, Any]:
        """Configurations, architecture and test figures, as ``model.json`` has them.

        Args:
            folder: The study's.
            scales: Of an ensemble.
        """
        files, searched = folder.files, [record.canonical for record in self.records]
        if len(self.records) == 1:
            (exported,) = self.configurations
            return {
                "configuration": {"search": searched[0], "exported": exported},
                "architecture": _groups(exported),
                "test": files.load_tests().get(self.records[0].number),
            }
        each: list[dict[str, Any]] = [
            {
                "trial": record.number,
                "trial_seed": self._seed(record),
                "search": record.canonical,
                "exported": exported,
                # One of every position of a tile that has a detector of its own.
                "scales": [part[number]._asdict() for part in scales],
            }
            for number, (record, exported) in enumerate(
                zip(self.records, self.configurations, strict=True)
            )
        ]
        numbers = [record.number for record in self.records]
        return {
            "ensemble": numbers,
            "configurations": each,
            "architecture": {
                f"{called(one['trial'])}, {part}": values
                for one in each
                for part, values in _groups(one["exported"]).items()
            },
            "test": files.load_ensembles().get(ensemble_name(numbers)),
        }

    def _seed(self, record: TrialRecord) -> int:
        return self.inputs.seed_of(record.canonical)


def exported_configuration(inputs: Inputs, record: TrialRecord, coreset: float | None) -> Params:
    """The trial's canonical configuration, with another memory bank if one is asked for.

    Its network computes in float32, as exported graphs do.

    Raises:
        ConfigError: The coreset ratio is out of range, or the runner has no memory bank.
    """
    found = {name: value for name, value in record.canonical.items() if name != "precision"}
    if coreset is None:
        return found
    known = inputs.runner.parameters
    if "coreset_ratio" not in known:
        raise ConfigError("--coreset", coreset, f"none: {inputs.spec.study.runner} has no bank")
    low = known["coreset_ratio"].low
    if not low <= coreset <= 1:
        raise ConfigError("--coreset", coreset, f"a share from {low:g} to 1")
    found.pop("bank_rows", None)  # A number of rows would go before the share.
    bank: Params = {"coreset_ratio": coreset, "coreset_method": "kcenter"}
    canonical = inputs.runner.canonical({**found, **bank})
    if "coreset_ratio" not in canonical:
        allowed = f"none: trial {record.number} has a window; rows_per_place makes its bank small"
        raise ConfigError("--coreset", coreset, f"{allowed}, searched or fixed in the space")
    return canonical


def _groups(canonical: Params) -> dict[str, dict[str, Any]]:
    """A configuration by the parts of an architecture that its names begin with."""
    groups: dict[str, dict[str, Any]] = {}
    for name, value in canonical.items():
        head, dot, tail = name.rpartition(".")
        groups.setdefault(head if dot else "whole", {})[tail] = value
    return groups
