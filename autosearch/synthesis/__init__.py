"""Anomalies made in image space: Perlin masks, foreign texture, cut & paste."""

from autosearch.synthesis.blend import SynthesisSettings, Synthetic, blend, synthesise
from autosearch.synthesis.cutpaste import (
    CutPasteSettings,
    Defect,
    Pasted,
    cut_and_paste,
    cut_patch,
    defect_library,
    paste,
    transform,
)
from autosearch.synthesis.foreground import foreground_mask, foreground_masks
from autosearch.synthesis.perlin import AnomalyMask, draw_mask, pool_mask
from autosearch.synthesis.procedural import ProceduralTextures
from autosearch.synthesis.split import add_synthetic
from autosearch.synthesis.textures import (
    FolderTextures,
    SelfTextures,
    TextureSource,
    draw_texture,
    open_textures,
)
from autosearch.synthesis.validation import synthetic_validation

__all__ = [
    "AnomalyMask",
    "CutPasteSettings",
    "Defect",
    "FolderTextures",
    "Pasted",
    "ProceduralTextures",
    "SelfTextures",
    "SynthesisSettings",
    "Synthetic",
    "TextureSource",
    "add_synthetic",
    "blend",
    "cut_and_paste",
    "cut_patch",
    "defect_library",
    "draw_mask",
    "draw_texture",
    "foreground_mask",
    "foreground_masks",
    "open_textures",
    "paste",
    "pool_mask",
    "synthesise",
    "synthetic_validation",
    "transform",
]
