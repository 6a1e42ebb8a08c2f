"""What a memory bank of patches is made of: parameters, rows, where they lie, and scores."""
