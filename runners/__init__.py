"""The systems that autosearch searches, one module each."""
