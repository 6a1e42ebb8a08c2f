"""Search spaces as YAML files, run by name: ``autosearch run autopatch``."""
