"""Durations, rates, percentages and status codes as people write them, and back."""

from __future__ import annotations

import math
import re
from decimal import Context, Decimal
from fractions import Fraction
from typing import NamedTuple

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_UNITS = {"d": Fraction(86400), "h": Fraction(3600), "m": Fraction(60), "s": Fraction(1), "ms": Fraction(1, 1000)}
_PERIODS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}
_MAX_LENGTH = 400  # the smallest float in milliseconds has 330 digits; longer texts are nobody's duration

DURATION_PATTERN = r"^(?=[0-9])" + "".join(rf"(?:{_NUMBER}{unit})?" for unit in _UNITS) + "$"
"""What a duration looks like, largest unit first, for the JSON Schema too."""
RATE_PATTERN = r"^0*[1-9][0-9]*/(?:" + "|".join(_PERIODS) + ")$"
"""What a rate looks like."""
PERCENTAGE_PATTERN = rf"^{_NUMBER}%$"
"""What a percentage looks like; the field says whether more than 100% makes sense."""
STATUS_PATTERN = r"^[1-5][0-9]{2}(?:-[1-5][0-9]{2})?$"
"""What a status code or a range of them looks like."""

_PART = re.compile(rf"({_NUMBER})(ms|[dhms])")
_WIDE = Context(prec=800)


class Rate(NamedTuple):
    """So many permits in a period, in seconds."""

    permits: int
    period: float


def parse_duration(text: object) -> float:
    """Return the seconds that `500ms`, `2s`, `1m30s`, `1h` or `1d` mean; raises ValueError for anything else."""
    if not isinstance(text, str) or len(text) > _MAX_LENGTH or not _matches(DURATION_PATTERN, text):
        raise ValueError(f"{_shown(text)} is not a duration; write for example 500ms, 2s, 1m30s, 1h or 1d")
    total = sum((Fraction(number) * _UNITS[unit] for number, unit in _PART.findall(text)), Fraction())
    try:
        return float(total)
    except OverflowError:
        raise ValueError(f"{_shown(text)} is longer than any duration can be") from None


def format_duration(value: float) -> str:
    """Write seconds as a duration that `parse_duration` reads back to the very same number."""
    left = Fraction(repr(seconds(value)))
    if 0 < left < 1:
        return f"{_decimal(left * 1000)}ms"
    written = ""
    for unit in ("d", "h", "m"):
        count, left = divmod(left, _UNITS[unit])
        written += f"{count}{unit}" if count else ""
    return written if written and not left else f"{written}{_decimal(left)}s"


def seconds(value: float | str) -> float:
    """Return seconds from a number of seconds or a duration text; raises ValueError unless finite and 0 or more."""
    if isinstance(value, str):
        return parse_duration(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{_shown(value)} is not a duration; write seconds or for example 500ms, 2s, 1m30s")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not 0 <= number < math.inf:
        raise ValueError(f"{_shown(value)} is not a duration; it must be finite and 0 or more")
    return number + 0.0  # no negative zero


def parse_rate(text: object) -> Rate:
    """Return the permits and the period that `100/second` means; raises ValueError for anything else."""
    if not isinstance(text, str) or len(text) > 100 or not _matches(RATE_PATTERN, text):
        raise ValueError(
            f"{_shown(text)} is not a rate; write a whole number from 1 per {_choices()}, as in 100/second"
        )
    permits, _, period = text.partition("/")
    return Rate(int(permits), _PERIODS[period])


def format_rate(rate: Rate) -> str:
    """Write a rate; raises ValueError for a period that has no name, which `{permits: …, per: …}` can say."""
    for name, period in _PERIODS.items():
        if period == rate.period:
            return f"{rate.permits}/{name}"
    raise ValueError(f"a rate is written per {_choices()}, not per {format_duration(rate.period)}")


def parse_percentage(text: object) -> float:
    """Return the fraction that `50%` means, 0.5; raises ValueError for anything else."""
    if not isinstance(text, str) or len(text) > _MAX_LENGTH or not _matches(PERCENTAGE_PATTERN, text):
        raise ValueError(f"{_shown(text)} is not a percentage; write a number and a percent sign, as in 50%")
    try:
        return float(Fraction(text[:-1]) / 100)
    except OverflowError:
        raise ValueError(f"{_shown(text)} is larger than any percentage can be") from None


def format_percentage(fraction: object) -> str:
    """Write a fraction, finite and 0 or more, as a percentage that `parse_percentage` reads back to the same number."""
    if isinstance(fraction, bool) or not isinstance(fraction, (int, float)) or not 0 <= fraction < math.inf:
        raise ValueError(f"{_shown(fraction)} is not a fraction; it must be finite and 0 or more")
    return f"{_decimal(Fraction(repr(fraction + 0.0)) * 100)}%"


def parse_status(value: int | str) -> range:
    """Return the status codes that `502` or `502-504` means; raises ValueError for anything else."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not _matches(STATUS_PATTERN, text):
        raise ValueError(f"{_shown(value)} is not a status; write a code from 100 to 599 or a range, as in 502-504")
    first, _, last = text.partition("-")
    if last and int(last) < int(first):
        raise ValueError(f"{text!r} is an empty range of statuses; write the lower code first, as in {last}-{first}")
    return range(int(first), int(last or first) + 1)


def _decimal(number: Fraction) -> str:
    """Write a fraction whose decimals end, all of them."""
    text = f"{_WIDE.divide(Decimal(number.numerator), Decimal(number.denominator)):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _matches(pattern: str, text: str) -> bool:
    return re.fullmatch(pattern, text) is not None and not text.endswith("\n")


def _choices() -> str:
    return "second, minute, hour or day"


def _shown(value: object) -> str:
    shown = repr(value) if isinstance(value, (str, float, bool, type(None))) else _short(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _short(value: object) -> str:
    if isinstance(value, int):
        return str(value) if abs(value) < 10**20 else "the number"
    return f"a {type(value).__name__}"
