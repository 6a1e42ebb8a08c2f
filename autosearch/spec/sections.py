"""YAML to a validated, frozen `StudySpec`; command-line overrides; a hash of what it asks for."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticCustomError

from autosearch.spec.categories import Category
from autosearch.spec.constraint import Constraint
from autosearch.spec.identity import fixed
from autosearch.spec.sampler import SamplerSpec
from autosearch.spec.section import PathText, Section
from autosearch.spec.sizes import EvaluationSize, ImageSize, MemorySize, Region
from autosearch.spec.space import Space
from autosearch.spec.strict_yaml import yaml_text
from autosearch.spec.tracking import TrackingSpec

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
TAGS = ("(list)", "(mapping)", "SyntheticSpec")
"""How the forms of ``start``, and of what may be a word or a mapping, are told apart in locations
of errors."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(value: object) -> object:
    """Read ``90``, ``"90s"``, ``"15m"``, ``"2h"`` or ``"1d"`` as seconds; leave the rest alone."""
    if isinstance(value, str) and (found := re.fullmatch(r"([\d.]+)\s*([smhd]?)", value.strip())):
        return float(found[1]) * _UNITS[found[2] or "s"]
    return value


def _listed(value: object) -> object:
    """One text as a list of one."""
    return [value] if isinstance(value, str) else value


Duration = Annotated[
    float,
    BeforeValidator(seconds),
    Field(gt=0, le=1e9, allow_inf_nan=False),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "maximum": 1e9},
                {"type": "string", "pattern": r"^\s*[\d.]+\s*[smhd]?\s*$"},
            ]
        }
    ),
]


class StudySection(Section):
    """What is run, how often, and from which seed.

    ``repeats`` runs of every configuration, with other seeds, make one trial; at the end those on
    the front are run until they have ``front_repeats``. ``post_trials`` settings of what comes
    after a fit are tried beside the proposed ones, and the best is stored. ``fit_images`` are the
    most normal training images that trials are fitted on; null for all of them. What is fitted
    anew on all normal images, to be evaluated or exported, is fitted on the others as well.
    """

    name: str = Field(pattern=rf"^{NAME.pattern}$")
    runner: str
    seed: int = Field(0, ge=0, lt=2**32)
    trials: int = Field(100, ge=1, le=1_000_000)
    timeout: Duration | None = None
    trial_timeout: Duration | None = None
    retries: int = Field(2, ge=0, le=100)
    repeats: int = Field(1, ge=1, le=100)
    front_repeats: int = Field(1, ge=1, le=100)
    post_trials: int = Field(0, ge=0, le=100)
    fit_images: int | None = Field(None, ge=1)


class PrunerSpec(Section):
    """When to stop a trial that reports while it trains; fractions are of its training.

    ``auto`` halves with one objective, and with several stops what even an optimistic guess finds
    dominated. ``bank_rows`` lets trials report, too, whose memory banks have so many rows.
    """

    name: Literal["auto", "none"] = "auto"
    first_rung: float = Field(0.1, gt=0, lt=1)
    reduction_factor: int = Field(3, ge=2, le=10)
    startup_trials: int = Field(5, ge=1)
    bank_rows: int | None = Field(None, ge=1)


class SyntheticSpec(Section):
    """Anomalies made from the normal validation images, beside real ones or instead of them.

    With the kind ``both`` there are ``per_image`` of either kind. ``textures`` is what ``perlin``
    blends in: ``self``, ``procedural``, or a folder of images.
    """

    kind: Literal["both", "perlin", "cutpaste"] = "both"
    per_image: int = Field(1, ge=1, le=100)
    textures: PathText = "self"
    seed: int = Field(0, ge=0, lt=2**32)

    @property
    def kinds(self) -> tuple[Literal["perlin", "cutpaste"], ...]:
        """Those that are made."""
        return ("perlin", "cutpaste") if self.kind == "both" else (self.kind,)


class ValidationSpec(Section):
    """What drives the search: real anomalies of every type, normal images, synthetic anomalies.

    ``real_per_type: auto`` is 1, or a third of every type where no anomalous image has a mask, or,
    where none is anomalous, 0 beside synthetic ones. ``normal: as_test`` is as many as the test
    split holds, as in AutoPatch's paper, and ``auto`` that or a quarter of those outside the test
    split, whichever is less, and at most 500; null, as studies of earlier versions have it, is
    ``as_test``.
    ``synthetic: auto`` makes anomalies beside the real ones where validation has fewer than five
    of some type: for figures of synthetic ones alone, so that all others are what they would be
    without. A mapping adds anomalies of which all figures are; null makes none.
    """

    real_per_type: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    normal: Annotated[int, Field(ge=1)] | Literal["auto", "as_test"] | None = "auto"
    synthetic: SyntheticSpec | Literal["auto"] | None = "auto"

    @field_validator("synthetic", mode="before")
    @classmethod
    def _known_word(cls, value: object) -> object:
        """Refuse in words for people what is neither a mapping nor one of the words."""
        if value in ("auto", None) or isinstance(value, (dict, SyntheticSpec)):
            return value
        keys = ", ".join(SyntheticSpec.model_fields)
        raise PydanticCustomError(
            "synthetic", f"Input should be auto, null or a mapping that may have {keys}"
        )


class LabelledSpec(Section):
    """Shares of every type's anomalous images for training and for validation; test has the rest.

    Defaults are Synth4Seg's.
    """

    train: float = Field(0.48, gt=0, lt=1)
    val: float = Field(0.28, gt=0, lt=1)


Seams = Literal["blend", "middle"]
"""What becomes of the maps of tiles where these overlap."""


class TilingSpec(Section):
    """Large images as overlapping tiles; ``size`` is a tile's side in pixels of the input.

    ``overlap`` is the least share of a tile that it has in common with the next one. With ``banks:
    position`` every place of a tile has a detector of its own, for parts that are aligned; what
    trains is then trained as often as there are tiles. With ``seams: middle`` a pixel is that of
    the tile in whose middle it lies, instead of a mean of those that overlap.
    """

    size: int = Field(ge=32, le=2048)
    overlap: float = Field(0.25, ge=0, le=0.5)
    banks: Literal["shared", "position"] = "shared"
    seams: Seams = "blend"


class DatasetSpec(Section):
    """Which images to search on, how they are split and resized, and how figures weigh them.

    ``category`` may be several, for one model. ``layout`` says how images lie in folders or
    files; ``auto`` finds out.
    ``fit`` says how images of another shape than the input's come in: with padding that nothing
    counts, or out of proportion. Of ``region_of_interest`` a rectangle, ``[top, left, bottom,
    right]`` in pixels of the files, is cut out, and outside a mask file nothing is scored.
    ``preprocess`` finds the object first, or takes the mask that ``foreground``, a folder, has of
    it; ``background`` is the grey around it where ``mask`` and ``centre`` show no photograph.
    ``prevalence`` is the share of anomalous pixels that calibrated figures stand for.
    """

    name: str = "demo"
    root: PathText | None = None
    category: Category = "brick"
    layout: Literal[
        "auto", "mvtec", "mvtec_ad_2", "mvtec_loco", "visa", "btad", "kolektor", "kolektor2",
        "good_bad", "flat", "csv", "coco", "labelme", "label_studio", "cvat",
    ] = "auto"  # fmt: skip
    validation: ValidationSpec = ValidationSpec()
    labelled: LabelledSpec | None = None
    test_skip: int | None = Field(None, ge=0)
    image_size: ImageSize = 224
    fit: Literal["letterbox", "stretch"] = "letterbox"
    evaluation_size: EvaluationSize = None
    tiling: TilingSpec | None = None
    region_of_interest: Region = None
    preprocess: Literal["none", "mask", "crop", "centre", "align"] = "none"
    foreground: PathText | None = None
    background: float = Field(0.0, ge=0, le=1)
    mask_rule: Literal["nearest", "any"] = "nearest"
    mask_reading: Literal["auto", "value", "index", "alpha", "inverted"] = "auto"
    orientation: Literal["upright", "stored"] = "upright"
    regions: Literal["source", "resized"] = "source"
    prevalence: float = Field(0.01, gt=0, lt=1)
    seed: int = Field(0, ge=0, lt=2**32)

    @property
    def categories(self) -> tuple[str, ...]:
        """All categories that are asked for, as a rule one."""
        return (self.category,) if isinstance(self.category, str) else self.category


class ArchitectureSpec(Section):
    """What the trial of another study was made from; looked up, not written by hand.

    ``params`` are its canonical parameters, ``hashes`` those of the study's weights by model name,
    ``weights`` and ``seed`` what they were asked for with.
    """

    runner: str
    params: dict[str, bool | int | float | str | None]
    hashes: dict[str, str]
    weights: str
    seed: int


class BackboneSpec(Section):
    """Where features come from, and which weights they use.

    A runner that trains on top of a backbone may take the one that ``trial`` of another ``study``,
    a folder, found. Then ``weights: auto`` stands for what that study was given.
    ``accept_licence`` names the licence of weights that was read and accepted.
    """

    supernet: Literal["ofa_mobilenetv3"] = "ofa_mobilenetv3"
    weights: PathText = "auto"
    accept_licence: Literal["dinov3"] | None = None
    count_kernel_transform: bool = False
    study: PathText | None = None
    trial: int | None = Field(None, ge=0)
    architecture: ArchitectureSpec | None = None


class SynthesisSpec(Section):
    """What anomalies are made from in training; ``textures`` is a folder of images."""

    textures: PathText | None = None


class MemorySpec(Section):
    """Who finds nearest neighbours."""

    backend: Literal["auto", "torch", "torch-float32", "faiss-cpu", "faiss-gpu"] = "auto"


class ResourceSpec(Section):
    """What one trial gets, and how many run at once; ``gpu: auto`` shares any there are.

    ``memory`` is for all trials of a machine together; ``auto`` is most of what is available.
    ``latency_threads`` are those of the exported graph that ``latency_ms`` times; null, as studies
    of earlier versions have it, times torch instead, on the threads of the trial.
    """

    cpu: float = Field(1, gt=0, allow_inf_nan=False)
    gpu: Annotated[float, Field(ge=0, allow_inf_nan=False)] | Literal["auto"] = "auto"
    max_concurrent: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    memory: MemorySize = "auto"
    latency_threads: Annotated[int, Field(ge=1, le=1024)] | None = 1


class StartSpec(BaseModel):
    """What the first trials are: configurations, and after them those of earlier studies.

    ``from`` names folders of studies, ``top`` how many of each are taken, best first; None for
    all that have values. ``windows``: whether windows that suit how well the images are aligned
    are tried beside the first configuration, if the space has such a parameter.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, serialize_by_alias=True)

    from_: Annotated[list[PathText], BeforeValidator(_listed)] = Field([], alias="from")
    top: int | None = Field(None, ge=1)
    configurations: list[dict[str, Any]] = []
    windows: bool = False


def _tag(value: object) -> str:
    return TAGS[1] if isinstance(value, (dict, StartSpec)) else TAGS[0]


_Start = Annotated[
    Annotated[list[dict[str, Any]], Tag(TAGS[0])] | Annotated[StartSpec, Tag(TAGS[1])],
    Discriminator(_tag),
]


class StudySpec(Section):
    """A whole study: what to search, on which data, with which budget.

    ``start`` lists configurations of the first trials, such as one that is known to work;
    parameters that they leave out are drawn as always. It may also name studies to take them from.
    """

    study: StudySection
    space: dict[str, Any]
    start: _Start = Field([])
    objectives: list[str] = Field(min_length=1)
    measures: list[str] = Field([])
    constraints: list[str] = Field([])
    sampler: SamplerSpec = SamplerSpec()
    pruner: PrunerSpec = PrunerSpec()
    dataset: DatasetSpec = DatasetSpec()
    backbone: BackboneSpec = BackboneSpec()
    synthesis: SynthesisSpec = SynthesisSpec()
    memory: MemorySpec = MemorySpec()
    resources: ResourceSpec = ResourceSpec()
    tracking: TrackingSpec = TrackingSpec()

    @property
    def parsed_space(self) -> Space:
        """The search space as parameters."""
        return Space.parse(self.space)

    @property
    def parsed_constraints(self) -> tuple[Constraint, ...]:
        """The constraints as bounds."""
        return tuple(Constraint.parse(text) for text in self.constraints)

    @property
    def configurations(self) -> list[dict[str, Any]]:
        """Those that ``start`` itself lists."""
        return self.start.configurations if isinstance(self.start, StartSpec) else self.start

    @property
    def windows(self) -> bool:
        """Whether windows that suit the images are tried first."""
        return isinstance(self.start, StartSpec) and self.start.windows

    @property
    def earlier(self) -> list[str]:
        """Folders of the studies whose configurations are tried first."""
        return self.start.from_ if isinstance(self.start, StartSpec) else []

    def identity(self) -> dict[str, Any]:
        """What two runs must share to add trials to one study, apart from data and weights.

        Returns:
            Values by dotted key, of all keys but those of `autosearch.spec.identity.MAY_CHANGE`,
            as JSON has them. Of a searched architecture only what it is: how it was found may
            change, and its weights are told apart by their hashes. Masks may lie elsewhere: their
            content is part of the data's hash.
        """
        found = self.backbone.architecture
        plain = fixed(self)
        if isinstance(self.dataset.region_of_interest, str):
            plain["dataset.region_of_interest"] = "a mask file"
        if self.dataset.foreground is not None:
            plain["dataset.foreground"] = "a folder of masks"
        return {
            **plain,
            "constraints": [str(constraint) for constraint in self.parsed_constraints],
            "space": self.parsed_space.to_plain(),
            "backbone.architecture": found and found.model_dump(include={"runner", "params"}),
        }

    def content_hash(self) -> str:
        """SHA-256 of `identity`."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()

    def to_yaml(self) -> str:
        """The resolved spec as YAML that `load_spec` reads back to an equal spec."""
        return yaml_text(self.model_dump(mode="json"))
