from . import (
    registry as registry,
)
from .detector import (
    Cost as Cost,
    Detector as Detector,
    ParameterInfo as ParameterInfo,
    Runner as Runner,
    TrialContext as TrialContext,
    check_space as check_space,
    left_on as left_on,
    passes as passes,
    shared_tensor as shared_tensor,
    with_defaults as with_defaults,
)
from .ensemble import (
    EnsembleDetector as EnsembleDetector,
    Member as Member,
    Scales as Scales,
    ensemble_of as ensemble_of,
    give_scales as give_scales,
    scales_of as scales_of,
)
from .objectives import (
    HALF as HALF,
    Beside as Beside,
    Moment as Moment,
    Objective as Objective,
    Scored as Scored,
)
from .schema import study_schema as study_schema
from .staged import (
    SHARED as SHARED,
    StagedDetector as StagedDetector,
    StagedRunner as StagedRunner,
    stage_of as stage_of,
    staged_runner as staged_runner,
    understood as understood,
)
from .tiled import (
    TiledDetector as TiledDetector,
)
from .trials import (
    FINISHED as FINISHED,
    PREPROCESS as PREPROCESS,
    SCORED as SCORED,
    Assignment as Assignment,
    Outcome as Outcome,
    Progress as Progress,
    Setting as Setting,
    Status as Status,
    Summary as Summary,
    TrialRecord as TrialRecord,
    called as called,
    canonical_key as canonical_key,
    derived_seed as derived_seed,
    ensemble_name as ensemble_name,
    trial_seed as trial_seed,
)
