from .data_files import (
    Files as Files,
    changes as changes,
    files_of as files_of,
)
from .database import (
    VARIABLE as VARIABLE,
    Database as Database,
)
from .estimate_files import (
    FACTORY as FACTORY,
    EstimateFiles as EstimateFiles,
    PixelCounts as PixelCounts,
    Pixels as Pixels,
    Repeat as Repeat,
    ScoredImages as ScoredImages,
)
from .folder import (
    StudyFolder as StudyFolder,
)
from .journal import (
    Journal as Journal,
)
from .log import (
    Note as Note,
    StudyLog as StudyLog,
    silent as silent,
)
from .notes import (
    LONGEST_NOTE as LONGEST_NOTE,
    TrialNote as TrialNote,
)
from .optuna_study import (
    StoredTrials as StoredTrials,
    attributes_of as attributes_of,
    begins_with as begins_with,
    open_study as open_study,
    record_of as record_of,
)
from .stored import Run as Run
from .trial_files import (
    CHOICE as CHOICE,
    REPEATS as REPEATS,
    TEST as TEST,
    TrialFiles as TrialFiles,
    Which as Which,
)
from .trial_store import TrialStore as TrialStore
