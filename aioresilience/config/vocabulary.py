"""The words that a document may use: the keys of the patterns it is read for, and their fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, get_args

from aioresilience.config.document import Extending, Frame, PolicyFrame
from aioresilience.pattern import AnyPattern, PatternConfig

LIBRARY_ORDER: Final = (
    "fallback",
    "deadline",
    "load_shedder",
    "backpressure",
    "retry",
    "circuit_breaker",
    "rate_limiter",
    "adaptive_concurrency",
    "bulkhead",
    "timeout",
)
"""The default order, outermost first."""

POLICY_MAPS: Final = ("policies", "templates", "shared")
SECTIONS: Final = (*POLICY_MAPS, "defaults", "environments", "overrides")
TOP_LEVEL: Final = ("version", "requires", *Frame.model_fields, "include", *SECTIONS, "end")
_OF_A_FILE: Final = ("version", "requires", "include", "environments", "end")
IN_OVERLAY: Final = tuple(key for key in TOP_LEVEL if key not in _OF_A_FILE)


class Vocabulary:
    """The patterns that a document may name, in the default order."""

    __slots__ = ("order", "types")

    def __init__(self, patterns: Iterable[type[AnyPattern]]) -> None:
        classes: dict[str, type[AnyPattern]] = {pattern.key: pattern for pattern in patterns}
        self.types: Mapping[str, type[PatternConfig]] = {key: one.config_type for key, one in classes.items()}
        self.order = _order(classes)

    def short(self, key: str) -> str | None:
        """Return the field that a bare value of this pattern stands for."""
        return self.types[key].short

    def fields(self, key: str) -> frozenset[str]:
        """Return the keys that are valid in a pattern's block."""
        return frozenset(self.types[key].model_fields) | {"use"}

    def opaque(self, key: str) -> frozenset[str]:
        """Return the fields whose value is the user's own, blocks included."""
        fields = self.types[key].model_fields.items()
        return frozenset(name for name, field in fields if field.annotation in (object, Any))

    def nullable(self, key: str) -> frozenset[str]:
        """Return the fields that may be null by their own meaning, such as `no limit`."""
        fields = self.types[key].model_fields.items()
        return frozenset(name for name, field in fields if type(None) in get_args(field.annotation))

    def policy_keys(self, *, extending: bool = True) -> list[str]:
        """Return the keys that are valid in a policy, or in `defaults`."""
        frame = Extending if extending else PolicyFrame
        return [*frame.model_fields, *self.types]


def _order(classes: Mapping[str, type[AnyPattern]]) -> tuple[str, ...]:
    """Return the default order; a pattern of others stands right outside the one that its `stands_outside` names."""
    order = [key for key in LIBRARY_ORDER if key in classes]
    for key, one in classes.items():
        inner = getattr(one, "stands_outside", None)
        if key not in order and inner in order:
            order.insert(order.index(inner), key)
    return tuple(order)
