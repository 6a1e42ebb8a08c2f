"""Trials as a table of pandas, where that is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autosearch.contracts import TrialRecord
from autosearch.errors import ConfigError

if TYPE_CHECKING:
    import pandas


def to_frame(
    records: Sequence[TrialRecord], tests: Mapping[int, Mapping[str, Any]]
) -> pandas.DataFrame:
    """One row for each trial; see `autosearch.api.study.Study.to_frame`.

    Args:
        records: The trials.
        tests: Their test figures, by number.

    Raises:
        ConfigError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise ConfigError("pandas", "not installed", "pip install pandas") from None
    several = any(record.taken_from for record in records)
    rows = {
        record.number: {
            "status": str(record.status),
            "reason": record.reason,
            **({"taken_from": record.source} if several else {}),
            "duration": record.duration,
            **record.values,
            **record.measured,
            **{
                f"test.{name}": value
                for name, value in tests.get(record.number, {}).get("metrics", {}).items()
            },
            **{f"params.{name}": value for name, value in record.params.items()},
        }
        for record in records
    }
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("number")
