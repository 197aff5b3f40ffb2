"""One of the fleet's machines."""

from __future__ import annotations

import pytest

from tests.conftest import Checkout
from tests.fleet.common import fleet


@pytest.fixture
def machine(built: Checkout) -> Checkout:
    """One of the fleet's machines, on which nothing was built since the server joined."""
    built.change(fleet)
    return built
