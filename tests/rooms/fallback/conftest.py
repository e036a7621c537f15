from __future__ import annotations

import pytest

from aioresilience.testing import VirtualClock


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()
