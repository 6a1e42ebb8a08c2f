from .advice import (
    Advice as Advice,
    Choice as Choice,
    advise as advise,
)
from .boxes import (
    Box as Box,
    Size as Size,
)
from .categories import (
    categories_of as categories_of,
    prefixed as prefixed,
)
from .check import (
    Problem as Problem,
    RegionAreas as RegionAreas,
    Report as Report,
    check_dataset as check_dataset,
)
from .convert import (
    Converted as Converted,
    convert_dataset as convert_dataset,
)
from .decoding import (
    EXTENSIONS as EXTENSIONS,
    Orientation as Orientation,
    is_image as is_image,
)
from .demo import (
    demo_root as demo_root,
)
from .drawn import (
    drawn_text as drawn_text,
    makes_beside as makes_beside,
    measured_text as measured_text,
)
from .foreground import (
    foreground_mask as foreground_mask,
    foreground_masks as foreground_masks,
)
from .framing import (
    FITS as FITS,
    STAGES as STAGES,
    Framing as Framing,
    View as View,
    size_text as size_text,
)
from .framings import (
    Framings as Framings,
    framings_of as framings_of,
)
from .images import (
    RESIZE_RULE as RESIZE_RULE,
    read_image as read_image,
    resize as resize,
    resize_mask as resize_mask,
)
from .index import (
    Index as Index,
    Sample as Sample,
    Saturation as Saturation,
)
from .interest import (
    read_interest as read_interest,
)
from .layouts.choose import (
    LAYOUTS as LAYOUTS,
    only_category as only_category,
    open_index as open_index,
)
from .likeness import (
    Likeness as Likeness,
    likeness_of as likeness_of,
)
from .load import (
    load_search_data as load_search_data,
    load_test_set as load_test_set,
)
from .looks import (
    look as look,
)
from .mask_folder import (
    MaskFolder as MaskFolder,
    no_masks as no_masks,
    of_size as of_size,
    read_object_mask as read_object_mask,
)
from .masks import (
    MaskReading as MaskReading,
    read_mask as read_mask,
)
from .outlines import (
    Outlines as Outlines,
    Pixels as Pixels,
    Polygon as Polygon,
)
from .pictures import (
    contact_sheet as contact_sheet,
    heat as heat,
)
from .pool import Pool as Pool, load_pool as load_pool
from .records import (
    NORMAL as NORMAL,
    ImageSet as ImageSet,
    SearchData as SearchData,
    join as join,
)
from .regions import (
    label_regions as label_regions,
    resize_regions as resize_regions,
)
from .splits import (
    Split as Split,
    real_per_type as real_per_type,
    settled as settled,
    split_index as split_index,
)
from .stages import (
    CANVAS_STAGES as CANVAS_STAGES,
    CanvasStage as CanvasStage,
    Placement as Placement,
)
from .store import LARGE as LARGE
from .tiles import (
    TileGrid as TileGrid,
    grid_of as grid_of,
    input_text as input_text,
    numbered as numbered,
    tiles_of as tiles_of,
)
