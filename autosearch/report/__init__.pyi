from .curves import read_curves as read_curves
from .dashboard import (
    serve as serve,
)
from .factory_page import write_factory_page as write_factory_page
from .figure_files import Print as Print
from .figures import KINDS as KINDS, draw as draw, write_figure as write_figure
from .gallery_page import GALLERIES as GALLERIES, write_gallery as write_gallery
from .info import (
    study_info as study_info,
)
from .page import (
    write_report as write_report,
)
from .shown import shown_studies as shown_studies
