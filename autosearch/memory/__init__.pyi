from .bank import (
    MemoryBank as MemoryBank,
    available_backends as available_backends,
    make_memory_bank as make_memory_bank,
)
from .coreset import (
    coreset as coreset,
    draw as draw,
    kept_count as kept_count,
)
