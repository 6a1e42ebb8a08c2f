from .dashboard import (
    serve as serve,
)
from .factory_page import write_factory_page as write_factory_page
from .figures import draw as draw
from .info import (
    study_info as study_info,
)
from .page import (
    write_report as write_report,
)
