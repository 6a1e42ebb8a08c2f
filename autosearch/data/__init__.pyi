from .check import (
    Problem as Problem,
    RegionAreas as RegionAreas,
    Report as Report,
    check_dataset as check_dataset,
)
from .demo import (
    demo_root as demo_root,
)
from .images import (
    EXTENSIONS as EXTENSIONS,
    RESIZE_RULE as RESIZE_RULE,
    is_image as is_image,
    read_image as read_image,
    read_mask as read_mask,
    resize as resize,
    resize_mask as resize_mask,
)
from .layouts import (
    Index as Index,
    Sample as Sample,
    categories as categories,
    open_index as open_index,
)
from .load import (
    load_search_data as load_search_data,
    load_test_set as load_test_set,
)
from .pictures import (
    contact_sheet as contact_sheet,
    heat as heat,
)
from .records import (
    NORMAL as NORMAL,
    SYNTHETIC as SYNTHETIC,
    ImageSet as ImageSet,
    SearchData as SearchData,
)
from .splits import (
    Split as Split,
    split_index as split_index,
)
