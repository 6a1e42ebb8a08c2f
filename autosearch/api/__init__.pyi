from .draft import time_text as time_text
from .factory import (
    estimate_name as estimate_name,
    stored_estimate as stored_estimate,
    write_factory_report as write_factory_report,
)
from .figures import figure as figure, figure_kinds as figure_kinds, write_figure as write_figure
from .fixed import estimate_spec as estimate_spec
from .listings import (
    check_data as check_data,
    convert_data as convert_data,
    foretell_trial as foretell_trial,
    look_at_data as look_at_data,
    objectives as objectives,
    runners as runners,
    spaces as spaces,
)
from .machine import Finding as Finding, examine as examine
from .pages import serve_dashboard as serve_dashboard, write_report as write_report
from .proposal import Proposal as Proposal, propose as propose
from .schema import (
    modeline as modeline,
    schema_text as schema_text,
    write_schema as write_schema,
)
from .searching import build_spec as build_spec, open_study as open_study, search as search
from .study import Study as Study
from .supernets import (
    distill_supernet as distill_supernet,
    verify_supernet as verify_supernet,
)
from .tuning import trainable as trainable
from .update import Progress as Progress, Searched as Searched, Update as Update
