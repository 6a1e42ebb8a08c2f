"""All of our objectives hold what every objective must."""

import pytest

from autosearch.contracts import Objective, registry
from autosearch.testing import ObjectiveSuite


@pytest.mark.parametrize("name", sorted(registry.objectives()))
class TestOurs(ObjectiveSuite):
    @pytest.fixture
    def objective(self, name: str) -> Objective:
        return registry.objectives()[name]
