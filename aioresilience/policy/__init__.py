"""Composing patterns into one callable."""

from aioresilience.policy.admission import Admission, Entrance
from aioresilience.policy.builtin import BUILTIN
from aioresilience.policy.partition import Partition
from aioresilience.policy.policy import BoundPolicy, Policy, bypass
from aioresilience.policy.snapshot import Snapshot, attempt_timeout, fold

__all__ = [
    "BUILTIN",
    "Admission",
    "BoundPolicy",
    "Entrance",
    "Partition",
    "Policy",
    "Snapshot",
    "attempt_timeout",
    "bypass",
    "fold",
]
