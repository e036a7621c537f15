from __future__ import annotations

import sys
from pathlib import Path

import pytest

from aioresilience.testing import VirtualClock

sys.path.insert(0, str(Path(__file__).parent))  # for circuit_helpers: pytest's importlib mode adds no folder


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()
