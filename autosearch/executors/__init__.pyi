from .choice import (
    SMALL_SECONDS as SMALL_SECONDS,
    make_executor as make_executor,
)
from .local import (
    LocalExecutor as LocalExecutor,
)
from .ray_tune import (
    RayTuneExecutor as RayTuneExecutor,
)
from .trainable import TrialFailed as TrialFailed, make_trainable as make_trainable
