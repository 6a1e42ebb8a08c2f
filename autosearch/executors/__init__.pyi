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
