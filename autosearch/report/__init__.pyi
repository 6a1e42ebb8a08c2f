from .dashboard import (
    serve as serve,
)
from .figures import draw as draw
from .info import (
    study_info as study_info,
)
from .page import (
    write_report as write_report,
)
