"""Resilience as configuration: asyncio patterns governed by one `resilience.yaml`.

Every public name is imported from its module when it is first used; importing the package imports nothing.
"""

import sys
from importlib import import_module
from types import ModuleType

TYPE_CHECKING = False  # as typing's, which would have to be imported

__version__ = "0.3.0"

_NAMES_OF = {
    "adaptive_concurrency": ("AdaptiveConcurrencyLimiter",),
    "backpressure": ("BackpressureManager", "with_backpressure"),
    "bulkhead": (
        "Bulkhead",
        "BulkheadMetrics",
        "BulkheadRegistry",
        "bulkhead",
        "get_all_bulkhead_metrics",
        "get_bulkhead",
        "with_bulkhead",
    ),
    "circuit_breaker": (
        "CircuitBreaker",
        "CircuitBreakerManager",
        "CircuitMetrics",
        "CircuitState",
        "circuit_breaker",
        "get_all_circuit_metrics",
        "get_circuit_breaker",
        "with_circuit_breaker",
    ),
    "config": (
        "AdaptiveConcurrencyConfig",
        "BackpressureConfig",
        "BulkheadConfig",
        "CircuitConfig",
        "ConfigError",
        "FallbackConfig",
        "LoadSheddingConfig",
        "RateLimitConfig",
        "RetryConfig",
        "TimeoutConfig",
    ),
    "decorators": ("resilient",),
    "events": (
        "BulkheadEvent",
        "CircuitBreakerEvent",
        "EventEmitter",
        "EventType",
        "FallbackEvent",
        "LoadShedderEvent",
        "PatternType",
        "RateLimitEvent",
        "ResilienceEvent",
        "RetryEvent",
        "TimeoutEvent",
        "global_bus",
    ),
    "exceptions": (
        "BackpressureError",
        "BackpressureReason",
        "BulkheadFullError",
        "BulkheadReason",
        "CircuitBreakerOpenError",
        "CircuitBreakerReason",
        "ExceptionAction",
        "ExceptionConfig",
        "ExceptionContext",
        "ExceptionHandler",
        "FallbackFailedError",
        "FallbackReason",
        "LoadSheddingError",
        "LoadSheddingReason",
        "OperationTimeoutError",
        "RateLimitExceededError",
        "RateLimitReason",
        "RejectionError",
        "ResilienceError",
        "RetryReason",
        "RevisionConflictError",
        "TimeoutReason",
        "UnknownPolicyError",
        "create_exception_config",
    ),
    "fallback": (
        "ChainedFallback",
        "FallbackHandler",
        "FallbackMetrics",
        "chained_fallback",
        "fallback",
        "with_fallback",
        "with_fallback_handler",
    ),
    "load_shedding": (
        "BasicLoadShedder",
        "LoadLevel",
        "LoadMetrics",
        "LoadShedder",
        "SystemLoadShedder",
        "with_load_shedding",
    ),
    "logging": ("configure_logging", "disable_logging", "is_logging_enabled", "log_error", "set_error_handler"),
    "policy": ("BUILTIN", "Partition", "Policy"),
    "rate_limiting": ("LocalRateLimiter", "RateLimiter", "RedisRateLimiter"),
    "registry": ("Registry", "configure", "get_registry"),
    "retry": ("RetryMetrics", "RetryPolicies", "RetryPolicy", "RetryStrategy", "retry", "with_retry"),
    "scope": ("current_deadline", "detached_deadline"),
    "timeout": (
        "DeadlineManager",
        "TimeoutManager",
        "TimeoutMetrics",
        "timeout",
        "with_deadline",
        "with_timeout",
        "with_timeout_manager",
    ),
}
_HOME = {name: f"{__name__}.{module}" for module, names in _NAMES_OF.items() for name in names}

if TYPE_CHECKING:
    from aioresilience.adaptive_concurrency import (
        AdaptiveConcurrencyLimiter as AdaptiveConcurrencyLimiter,
    )
    from aioresilience.backpressure import (
        BackpressureManager as BackpressureManager,
        with_backpressure as with_backpressure,
    )
    from aioresilience.bulkhead import (
        Bulkhead as Bulkhead,
        BulkheadMetrics as BulkheadMetrics,
        BulkheadRegistry as BulkheadRegistry,
        bulkhead as bulkhead,
        get_all_bulkhead_metrics as get_all_bulkhead_metrics,
        get_bulkhead as get_bulkhead,
        with_bulkhead as with_bulkhead,
    )
    from aioresilience.circuit_breaker import (
        CircuitBreaker as CircuitBreaker,
        CircuitBreakerManager as CircuitBreakerManager,
        CircuitMetrics as CircuitMetrics,
        CircuitState as CircuitState,
        circuit_breaker as circuit_breaker,
        get_all_circuit_metrics as get_all_circuit_metrics,
        get_circuit_breaker as get_circuit_breaker,
        with_circuit_breaker as with_circuit_breaker,
    )
    from aioresilience.config import (
        AdaptiveConcurrencyConfig as AdaptiveConcurrencyConfig,
        BackpressureConfig as BackpressureConfig,
        BulkheadConfig as BulkheadConfig,
        CircuitConfig as CircuitConfig,
        ConfigError as ConfigError,
        FallbackConfig as FallbackConfig,
        LoadSheddingConfig as LoadSheddingConfig,
        RateLimitConfig as RateLimitConfig,
        RetryConfig as RetryConfig,
        TimeoutConfig as TimeoutConfig,
    )
    from aioresilience.decorators import (
        resilient as resilient,
    )
    from aioresilience.events import (
        BulkheadEvent as BulkheadEvent,
        CircuitBreakerEvent as CircuitBreakerEvent,
        EventEmitter as EventEmitter,
        EventType as EventType,
        FallbackEvent as FallbackEvent,
        LoadShedderEvent as LoadShedderEvent,
        PatternType as PatternType,
        RateLimitEvent as RateLimitEvent,
        ResilienceEvent as ResilienceEvent,
        RetryEvent as RetryEvent,
        TimeoutEvent as TimeoutEvent,
        global_bus as global_bus,
    )
    from aioresilience.exceptions import (
        BackpressureError as BackpressureError,
        BackpressureReason as BackpressureReason,
        BulkheadFullError as BulkheadFullError,
        BulkheadReason as BulkheadReason,
        CircuitBreakerOpenError as CircuitBreakerOpenError,
        CircuitBreakerReason as CircuitBreakerReason,
        ExceptionAction as ExceptionAction,
        ExceptionConfig as ExceptionConfig,
        ExceptionContext as ExceptionContext,
        ExceptionHandler as ExceptionHandler,
        FallbackFailedError as FallbackFailedError,
        FallbackReason as FallbackReason,
        LoadSheddingError as LoadSheddingError,
        LoadSheddingReason as LoadSheddingReason,
        OperationTimeoutError as OperationTimeoutError,
        RateLimitExceededError as RateLimitExceededError,
        RateLimitReason as RateLimitReason,
        RejectionError as RejectionError,
        ResilienceError as ResilienceError,
        RetryReason as RetryReason,
        RevisionConflictError as RevisionConflictError,
        TimeoutReason as TimeoutReason,
        UnknownPolicyError as UnknownPolicyError,
        create_exception_config as create_exception_config,
    )
    from aioresilience.fallback import (
        ChainedFallback as ChainedFallback,
        FallbackHandler as FallbackHandler,
        FallbackMetrics as FallbackMetrics,
        chained_fallback as chained_fallback,
        fallback as fallback,
        with_fallback as with_fallback,
        with_fallback_handler as with_fallback_handler,
    )
    from aioresilience.load_shedding import (
        BasicLoadShedder as BasicLoadShedder,
        LoadLevel as LoadLevel,
        LoadMetrics as LoadMetrics,
        LoadShedder as LoadShedder,
        SystemLoadShedder as SystemLoadShedder,
        with_load_shedding as with_load_shedding,
    )
    from aioresilience.logging import (
        configure_logging as configure_logging,
        disable_logging as disable_logging,
        is_logging_enabled as is_logging_enabled,
        log_error as log_error,
        set_error_handler as set_error_handler,
    )
    from aioresilience.policy import (
        BUILTIN as BUILTIN,
        Partition as Partition,
        Policy as Policy,
    )
    from aioresilience.rate_limiting import (
        LocalRateLimiter as LocalRateLimiter,
        RateLimiter as RateLimiter,
        RedisRateLimiter as RedisRateLimiter,
    )
    from aioresilience.registry import (
        Registry as Registry,
        configure as configure,
        get_registry as get_registry,
    )
    from aioresilience.retry import (
        RetryMetrics as RetryMetrics,
        RetryPolicies as RetryPolicies,
        RetryPolicy as RetryPolicy,
        RetryStrategy as RetryStrategy,
        retry as retry,
        with_retry as with_retry,
    )
    from aioresilience.scope import (
        current_deadline as current_deadline,
        detached_deadline as detached_deadline,
    )
    from aioresilience.timeout import (
        DeadlineManager as DeadlineManager,
        TimeoutManager as TimeoutManager,
        TimeoutMetrics as TimeoutMetrics,
        timeout as timeout,
        with_deadline as with_deadline,
        with_timeout as with_timeout,
        with_timeout_manager as with_timeout_manager,
    )

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> object:
    """Import a public name from its module, once."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *_HOME})


class _Root(ModuleType):
    """The package's module, whose public names win over submodules of the same name.

    `import aioresilience.retry` binds the submodule here; `aioresilience.retry` stays the decorator all the same.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (isinstance(value, ModuleType) and name in _HOME):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Root
