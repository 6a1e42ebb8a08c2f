"""CS-Flow: one normalizing flow of the maps of an image in three sizes, which see one another.

After "Fully Convolutional Cross-Scale-Flows for Image-based Defect Detection" (Rudolph et al.,
WACV 2022) as "From Lab to Factory: Pitfalls and Guidelines for Self-/Unsupervised Defect Detection
on Low-Quality Industrial Images" uses it, from which it departs only where a docstring says so.
"""
