from .api import (
    Study as Study,
    Update as Update,
    check_data as check_data,
    convert_data as convert_data,
    distill_supernet as distill_supernet,
    figure as figure,
    look_at_data as look_at_data,
    objectives as objectives,
    open_study as open_study,
    runners as runners,
    search as search,
    serve_dashboard as serve_dashboard,
    spaces as spaces,
    trainable as trainable,
    verify_supernet as verify_supernet,
    write_figure as write_figure,
    write_report as write_report,
)
from .export import Predictor as Predictor

__version__: str
