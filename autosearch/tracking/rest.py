"""Trials that trackers do not have yet, sent while somebody waits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from autosearch.contracts import FINISHED
from autosearch.errors import AutosearchError, StudyError, one_line
from autosearch.storage import StudyFolder
from autosearch.tracking.content import Contents, Tracker
from autosearch.tracking.sent import Sent


def send_rest(
    folder: StudyFolder,
    trackers: Sequence[Tracker],
    told: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> dict[str, int]:
    """Send what trackers do not have yet; each trial is there once, however often this is done.

    Args:
        folder: The study's, of which no search is under way.
        trackers: Who is to have its trials.
        told: Told a tracker's name, trials sent and trials to send.

    Returns:
        Trials that were sent, by tracker.

    Raises:
        StudyError: A tracker cannot be reached, or refuses a trial.
        AutosearchError: The study cannot be read.
    """
    records = [record for record in folder.trials.records() if record.status in FINISHED]
    over = len(records) >= folder.load_spec().study.trials
    sent = Sent(folder)
    contents = Contents(folder, sent.study_id())
    found = {}
    for tracker in trackers:
        there = sent.runs(tracker.name, tracker.to)
        missing = [record for record in records if record.number not in there]
        done = 0
        try:
            tracker.open(contents.study())
            for record in missing:
                told(tracker.name, done, len(missing))
                run = tracker.send(contents.trial(record))
                sent.add(tracker.name, tracker.to, record.number, run)
                done += 1
            tracker.close(contents.study(), "finished" if over else "stopped")
        except AutosearchError:
            raise
        except Exception as error:
            raise StudyError(
                f"{tracker.name} ({tracker.to}): {done} of {len(missing)} trials sent, then "
                f"{one_line(f'{type(error).__name__}: {error}')}; the same command goes on"
            ) from None
        told(tracker.name, done, len(missing))
        found[tracker.name] = done
    return found
