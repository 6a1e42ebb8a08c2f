"""Layouts of datasets, one module each; `choose` has the table and recognises them."""
