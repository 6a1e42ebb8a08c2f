from .answer import (
    Answer as Answer,
    SplitName as SplitName,
    answer_of as answer_of,
)
from .background import measure_background as measure_background
from .calibration import (
    SHARED as SHARED,
    Thresholds as Thresholds,
    choose_thresholds as choose_thresholds,
    thresholds_of as thresholds_of,
)
from .choice_data import MOST_SCORES as MOST_SCORES, scores_of as scores_of
from .correlation import (
    compare as compare,
)
from .costs import (
    compared as compared,
    figure_of as figure_of,
    order_warning as order_warning,
)
from .distinct import indistinct as indistinct
from .driver import (
    StudyDriver as StudyDriver,
)
from .ensemble import (
    fitted_ensemble as fitted_ensemble,
    members_of as members_of,
)
from .estimate import (
    DECIDED as DECIDED,
    FIGURES as FIGURES,
    PER as PER,
    Estimate as Estimate,
    RepeatFigures as RepeatFigures,
    Terms as Terms,
    labels_of as labels_of,
    summarise as summarise,
)
from .evaluate import (
    evaluate_ensemble as evaluate_ensemble,
    evaluate_trials as evaluate_trials,
)
from .evaluation import (
    TrialEvaluator as TrialEvaluator,
    build as build,
)
from .factory import (
    EstimateOptions as EstimateOptions,
    only_configuration as only_configuration,
    run_estimate as run_estimate,
)
from .final import (
    FinalEvaluator as FinalEvaluator,
)
from .findings import finding_name as finding_name, read_findings as read_findings
from .fitted import (
    Fit as Fit,
    all_normal as all_normal,
    fit_of as fit_of,
)
from .forecast import (
    Forecast as Forecast,
    forecast_of_data as forecast_of_data,
)
from .inputs import (
    Inputs as Inputs,
    load_inputs as load_inputs,
    rebuild as rebuild,
    reopen as reopen,
    threads_of as threads_of,
)
from .invariance import measure_invariance as measure_invariance
from .leases import (
    LEASE_SECONDS as LEASE_SECONDS,
)
from .pace import Pace as Pace, measure_pace as measure_pace
from .paired import Comparison as Comparison, compare_trials as compare_trials
from .recommendation import Recommendation as Recommendation, recommend as recommend
from .repetition import (
    Repeated as Repeated,
    of_first_run as of_first_run,
    over_runs as over_runs,
    repeat_trials as repeat_trials,
)
from .room import available as available
from .rules import (
    RULES as RULES,
    Candidate as Candidate,
    wins as wins,
)
from .safely import evaluate_safely as evaluate_safely
from .sampling import (
    ReproducibleSampler as ReproducibleSampler,
)
from .scorable import check_packages as check_packages
from .session import (
    Executor as Executor,
    open_driver as open_driver,
    run as run,
)
from .summary import (
    counts as counts,
    front as front,
    front_csv as front_csv,
    taken_over as taken_over,
)
from .truth import (
    counted_pixels as counted_pixels,
    maps_by as maps_by,
    maps_of as maps_of,
    truth_of as truth_of,
)
from .work import Driver as Driver, Evaluator as Evaluator
