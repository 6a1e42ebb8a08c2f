"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real defect images; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("AUTOSEARCH_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}; set AUTOSEARCH_TEST_DATA to their folder")
    return folder.resolve()


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keep the user's cache out of the tests."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["AUTOSEARCH_CACHE"] = str(folder)
    return folder
