from .blending import (
    SynthesisSettings as SynthesisSettings,
    Synthetic as Synthetic,
    blend as blend,
    synthesise as synthesise,
)
from .cutpaste import (
    CutPasteSettings as CutPasteSettings,
    Defect as Defect,
    Pasted as Pasted,
    cut_and_paste as cut_and_paste,
    cut_patch as cut_patch,
    defect_library as defect_library,
    paste as paste,
    transform as transform,
)
from .operations import (
    OPERATIONS as OPERATIONS,
    Operation as Operation,
)
from .perlin import (
    AnomalyMask as AnomalyMask,
    draw_mask as draw_mask,
    pool_mask as pool_mask,
)
from .placing import (
    Places as Places,
    at_input as at_input,
    places as places,
)
from .procedural import (
    ProceduralTextures as ProceduralTextures,
)
from .split import (
    add_synthetic as add_synthetic,
)
from .textures import (
    FolderTextures as FolderTextures,
    SelfTextures as SelfTextures,
    TextureSource as TextureSource,
    draw_texture as draw_texture,
    open_textures as open_textures,
)
from .validation import (
    synthetic_validation as synthetic_validation,
)
