"""Where the documentation says more about an error."""

from __future__ import annotations

from autosearch.errors import AutosearchError, ConfigError, DataError, WeightsError

_SPEC = "docs/spec.md"
_KEYS = {
    "study": "study",
    "objectives": "objectives-measures-constraints",
    "measures": "objectives-measures-constraints",
    "constraints": "objectives-measures-constraints",
    "space": "space",
    "start": "start",
    "sampler": "sampler",
    "pruner": "pruner",
    "dataset": "dataset",
    "dataset.layout": "layout",
    "dataset.category": "layout",
    "dataset.root": "layout",
    "dataset.image_size": "size-and-shape",
    "dataset.fit": "size-and-shape",
    "dataset.evaluation_size": "size-and-shape",
    "dataset.region_of_interest": "objects-and-regions-of-interest",
    "dataset.preprocess": "objects-and-regions-of-interest",
    "dataset.foreground": "objects-and-regions-of-interest",
    "space.preprocess": "objects-and-regions-of-interest",
    "dataset.background": "objects-and-regions-of-interest",
    "dataset.mask_reading": "masks",
    "dataset.validation": "datasetvalidation",
    "dataset.validation.synthetic": "datasetvalidationsynthetic",
    "dataset.labelled": "datasetlabelled",
    "dataset.tiling": "datasettiling",
    "backbone": "backbone",
    "synthesis": "synthesis",
    "memory": "memory",
    "resources": "resources",
    "tracking": "tracking",
    "--set": "on-the-command-line",
    "--foreground": "objects-and-regions-of-interest",
    "AUTOSEARCH_CACHE": "environment-variables",
}
"""Headings of the page about specs, by key or by what keys begin with."""


def page_of(error: AutosearchError) -> str | None:
    """A page and its heading, as files of the repository; None where no page says more."""
    if isinstance(error, ConfigError):
        parts = error.key.split(" ")[0].split(".")
        for number in range(len(parts), 0, -1):
            if (heading := _KEYS.get(".".join(parts[:number]))) is not None:
                return f"{_SPEC}#{heading}"
        return None
    if isinstance(error, WeightsError):
        return "docs/methods.md#weights"
    return f"{_SPEC}#layout" if isinstance(error, DataError) else None


PAGES = frozenset({"docs/methods.md#weights", *(f"{_SPEC}#{name}" for name in _KEYS.values())})
"""All that `page_of` names."""
