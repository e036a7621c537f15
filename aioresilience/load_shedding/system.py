"""A load shedder that watches the system by default."""

from __future__ import annotations

from aioresilience.clock import Clock
from aioresilience.exceptions import ExceptionConfig
from aioresilience.load_shedding.basic import BasicLoadShedder
from aioresilience.load_shedding.config import LoadSheddingConfig


class SystemLoadShedder(BasicLoadShedder):
    """Sheds calls while CPU or memory are used up; needs the extra `system`.

    Thresholds are percentages, `check_interval` is in seconds. A `config` takes the place of the keywords; thresholds
    that it leaves open are those of the keywords. Raises ModuleNotFoundError at use when psutil is not installed.
    """

    kind = "system"

    def __init__(
        self,
        max_requests: int = 1000,
        max_queue_depth: int = 500,
        cpu_threshold: float = 85.0,
        memory_threshold: float = 85.0,
        check_interval: float = 1.0,
        *,
        config: LoadSheddingConfig | None = None,
        exceptions: ExceptionConfig | None = None,
        name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        defaults = LoadSheddingConfig(
            max_requests=max_requests,
            max_queue_depth=max_queue_depth,
            cpu_threshold=cpu_threshold,
            memory_threshold=memory_threshold,
            check_interval=check_interval,
        )
        super().__init__(defaults if config is None else _filled(config, defaults), exceptions, name=name, clock=clock)

    def get_stats(self) -> dict[str, object]:
        """Return the numbers under the names of 0.2; both percentages are 0 until the first sample."""
        self._watch.begin(self)
        sample = self._watch.latest
        cpu, memory = (0.0, 0.0) if sample is None else sample
        return super().get_stats() | {"cpu_percent": cpu, "memory_percent": memory}


def _filled(config: LoadSheddingConfig, defaults: LoadSheddingConfig) -> LoadSheddingConfig:
    left_open = {"cpu_threshold", "memory_threshold"} - config.model_fields_set
    return config.model_copy(update={field: getattr(defaults, field) for field in left_open})
