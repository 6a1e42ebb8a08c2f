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
from .drift import (
    Drift as Drift,
    drift_of as drift_of,
)
from .images import (
    image_scores as image_scores,
    pixels_of_share as pixels_of_share,
)
from .intervals import (
    Interval as Interval,
    false_alarms as false_alarms,
    missed_defects as missed_defects,
    over_repeats as over_repeats,
    precision_at as precision_at,
    wilson as wilson,
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
from .threshold_rules import (
    NUMBERS as NUMBERS,
    RULES as RULES,
    Criterion as Criterion,
    Rule as Rule,
    best_cut as best_cut,
    cost_of as cost_of,
    normal_cut as normal_cut,
    normal_threshold as normal_threshold,
)
from .thresholds import (
    Confusion as Confusion,
    Threshold as Threshold,
    choose_threshold as choose_threshold,
    confusion as confusion,
    decide as decide,
    set_threshold as set_threshold,
)
from .truth import (
    Floats as Floats,
    Scores as Scores,
    Truth as Truth,
)
