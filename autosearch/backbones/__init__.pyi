from .complexity import (
    Complexity as Complexity,
    measure_latency as measure_latency,
    nearest_neighbour_flops as nearest_neighbour_flops,
    profile as profile,
)
from .features import (
    FeatureExtractor as FeatureExtractor,
    FeatureInfo as FeatureInfo,
    Grid as Grid,
    PatchFeatures as PatchFeatures,
    optimise_for_inference as optimise_for_inference,
    resize as resize,
    to_patches as to_patches,
)
from .packaged import (
    DEFAULT_BACKBONE as DEFAULT_BACKBONE,
    PACKAGED as PACKAGED,
)
from .precision import (
    Precision as Precision,
    in_precision as in_precision,
)
from .recalibration import (
    recalibrate as recalibrate,
)
from .supernets.checkpoint import (
    save_supernet as save_supernet,
)
from .supernets.distill import (
    Distillation as Distillation,
    DistillationProgress as DistillationProgress,
    DistillationSettings as DistillationSettings,
)
from .supernets.elastic import (
    ActiveSizes as ActiveSizes,
)
from .supernets.image_pack import (
    pack_images as pack_images,
)
from .supernets.ofa_layout import (
    EXPAND_RATIOS as EXPAND_RATIOS,
    KERNEL_SIZES as KERNEL_SIZES,
    MODEL_NAMES as MODEL_NAMES,
    STAGE_BLOCKS as STAGE_BLOCKS,
    STAGES as STAGES,
    WIDTHS as WIDTHS,
    OFAArchitecture as OFAArchitecture,
    kernel_transform_flops as kernel_transform_flops,
)
from .supernets.ofa_mobilenetv3 import (
    OFAMobileNetV3 as OFAMobileNetV3,
)
from .supernets.teacher import (
    Teacher as Teacher,
)
from .supernets.verify import (
    verify_state as verify_state,
)
from .timm_backbone import (
    TimmBackbone as TimmBackbone,
    timm_feature_info as timm_feature_info,
    timm_has_final_norm as timm_has_final_norm,
)
from .weights import (
    Weights as Weights,
    read_tensors as read_tensors,
    resolve as resolve,
)
