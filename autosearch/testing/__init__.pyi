from .backbones import (
    BackboneSuite as BackboneSuite,
)
from .images import (
    image_set as image_set,
)
from .layouts import (
    LayoutSuite as LayoutSuite,
)
from .memory import (
    MemoryBankSuite as MemoryBankSuite,
)
from .objectives import (
    ObjectiveSuite as ObjectiveSuite,
)
from .runners import (
    RunnerSuite as RunnerSuite,
)
