"""A small spec, as content and as a file."""

from pathlib import Path

import yaml

CONTENT = {
    "study": {"name": "small", "runner": "autopatch"},
    "space": {"width": [1.0, 1.2], "stage0.patch_size": {"int": [1, 4]}},
    "objectives": ["gflops", "rwap"],
}


def write_spec(folder: Path) -> Path:
    """The spec as a file."""
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump(CONTENT, sort_keys=False))
    return file
