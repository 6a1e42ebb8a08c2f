from .bank import (
    MemoryBank as MemoryBank,
    available_backends as available_backends,
    make_memory_bank as make_memory_bank,
)
from .images import (
    AlikeImages as AlikeImages,
    ImageBank as ImageBank,
)
from .kcenter import (
    coreset as coreset,
    coreset_at_places as coreset_at_places,
    draw as draw,
    draw_at_places as draw_at_places,
    kept_count as kept_count,
)
from .windows import (
    WindowedBank as WindowedBank,
    least as least,
)
