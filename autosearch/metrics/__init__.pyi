from . import (
    bootstrap as bootstrap,
    pareto as pareto,
)
from .bootstrap import (
    LEVEL as LEVEL,
)
from .correlation import (
    RankCorrelation as RankCorrelation,
    rank_correlation as rank_correlation,
)
from .images import (
    image_scores as image_scores,
    pixels_of_share as pixels_of_share,
)
from .jackknife import (
    auroc_error as auroc_error,
    rwap_error as rwap_error,
)
from .ranking import (
    Ranking as Ranking,
    auroc as auroc,
    average_precision as average_precision,
    best_f1 as best_f1,
    mean_image_iou as mean_image_iou,
)
from .thresholds import (
    Rule as Rule,
    Threshold as Threshold,
    choose_threshold as choose_threshold,
    decide as decide,
)
from .truth import (
    Floats as Floats,
    Scores as Scores,
    Truth as Truth,
)
