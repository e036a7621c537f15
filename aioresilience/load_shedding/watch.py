"""The signals that a load shedder watches beside its own counts."""

from __future__ import annotations

from aioresilience.calls import Caller
from aioresilience.clock import Clock
from aioresilience.load_shedding.config import LoadSheddingConfig
from aioresilience.load_shedding.levels import MEMORY, NEVER_CRITICAL, SHARE, UTILIZATION
from aioresilience.load_shedding.sampling import Sample, Subscription, SystemSampler
from aioresilience.load_shedding.signals import LagProbe, Pressure, lag_meter


class Watch:
    """Reads the signals that the config sets a limit to; samples of CPU and memory come from the `sampler`'s thread.

    A signal below half its limit is left out: nobody is shed for it. `on` tells whether there is anything to read,
    `samples` whether that comes from the sampler.
    """

    __slots__ = ("_clock", "_config", "_lags", "_sampler", "_subscription", "on", "samples")

    def __init__(self, config: LoadSheddingConfig, clock: Clock, sampler: SystemSampler) -> None:
        self._clock = clock
        self._lags = lag_meter(clock)
        self._sampler = sampler
        self._subscription: Subscription | None = None
        self.retune(config)

    def retune(self, config: LoadSheddingConfig) -> None:
        """Take new limits."""
        self._config = config
        self.samples = config.cpu_threshold is not None or config.memory_threshold is not None
        self.on = self.samples or config.max_lag is not None or config.max_age is not None
        if self._subscription is not None and self.samples:
            self._subscription.every(config.check_interval)
        elif self._subscription is not None:
            self._subscription.end()
            self._subscription = None

    def probe(self) -> LagProbe | None:
        """Return what measures the running loop, None where nobody asked for it."""
        return None if self._config.max_lag is None else self._lags.here()

    def begin(self, owner: object) -> None:
        """Start sampling where it is wanted, for as long as `owner` lives; raises where psutil is missing."""
        if self._subscription is None and self.samples:
            self._subscription = self._sampler.subscribe(owner, self._config.check_interval)

    @property
    def latest(self) -> Sample | None:
        """The latest sample, None before `begin` and until the first one."""
        subscription = self._subscription
        return None if subscription is None else subscription.latest

    def pressures(self, caller: Caller, probe: LagProbe | None) -> list[Pressure]:
        """Return event-loop lag, request age, CPU and memory use as far as they matter."""
        config, found = self._config, []
        if probe is not None and config.max_lag is not None:
            lag, limit = probe.reading(), config.max_lag
            if lag * 2 > limit:
                found.append(Pressure("event-loop lag", lag, limit, " s", lag / limit, SHARE))
        if caller.arrived is not None and config.max_age is not None:
            age, limit = self._clock.monotonic() - caller.arrived, config.max_age
            if age * 2 > limit:
                found.append(Pressure("request age", age, limit, " s", age / limit, SHARE))
        sample = None if self._subscription is None else self._subscription.latest
        return found if sample is None else found + self._sampled(sample)

    def _sampled(self, sample: Sample) -> list[Pressure]:
        config, (cpu, memory) = self._config, sample
        found = []
        if config.cpu_threshold is not None and cpu * 2 > config.cpu_threshold:
            found.append(Pressure("CPU use", cpu, config.cpu_threshold, " %", cpu, UTILIZATION))
        if config.memory_threshold is not None and memory * 2 > config.memory_threshold:
            found.append(Pressure("memory use", memory, config.memory_threshold, " %", memory, MEMORY))
        return found


def queue_pressure(depth: int, limit: int) -> list[Pressure]:
    """Return the queue's depth as far as it matters."""
    return [Pressure("queue depth", depth, limit, "", depth / limit, NEVER_CRITICAL)] if depth * 2 > limit else []
