"""What a study shows: plain records (`study_info`), and pages that draw them, as a file or live.

Reads the results of a search and nothing else.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
