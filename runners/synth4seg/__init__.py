"""Synth4Seg: cut & paste for a segmentation network, steered by how it does on validation.

After "Learning Defect Data Synthesis for Defect Segmentation using Bi-level Optimization" (Mou et
al.), of which there is no public code. An inner loop trains the network on synthetic images; an
outer loop learns how much each source of them counts, or where defects are pasted.
"""
