"""Auto-encoders: what they cannot rebuild of an image is anomalous.

The convolutional auto-encoder with a code of MVTec's papers, "Improving unsupervised defect
segmentation by applying structural similarity to autoencoders" (Bergmann et al., VISAPP 2019) and
"MVTec AD" (Bergmann et al., CVPR 2019), and a U-Net in its place, as in the appendix of MIAD.
"""
