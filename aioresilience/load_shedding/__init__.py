"""Load shedding: refuse calls early while the process is too busy, low priorities first."""

from aioresilience.exceptions import LoadSheddingError, LoadSheddingReason
from aioresilience.load_shedding.basic import BasicLoadShedder, LoadShedder
from aioresilience.load_shedding.config import LoadSheddingConfig
from aioresilience.load_shedding.decorators import with_load_shedding
from aioresilience.load_shedding.levels import LoadLevel, LoadMetrics
from aioresilience.load_shedding.machine import LoadMachine
from aioresilience.load_shedding.system import SystemLoadShedder

__all__ = [
    "BasicLoadShedder",
    "LoadLevel",
    "LoadMachine",
    "LoadMetrics",
    "LoadShedder",
    "LoadSheddingConfig",
    "LoadSheddingError",
    "LoadSheddingReason",
    "SystemLoadShedder",
    "with_load_shedding",
]
