"""What a wrong value was most likely meant to be: other spellings of units, quotes, switches and placeholders."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

_AMOUNT: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]+)\.?\s*", re.IGNORECASE)
_ISO: Final = re.compile(r"PT(?:([0-9]+)H)?(?:([0-9]+)M)?(?:([0-9]+(?:\.[0-9]+)?)S)?")
_RATE: Final = re.compile(
    r"\s*([0-9][0-9_,]*)\s*(?:req(?:uest)?s?|calls|r|q)?\s*(?:/|per|p)\s*([0-9]*)\s*([a-z]+)\s*", re.IGNORECASE
)
_PLACEHOLDER: Final = re.compile(r"<%.*|\{[{%].*|%\w+%|@\w+@|\{\w+\}|\$\(\w+\)")
_CURLED: Final = frozenset("\u201c\u201d\u201e\u2018\u2019\u00ab")
_UNITS: Final = {
    **dict.fromkeys(("ms", "msec", "msecs", "millis", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), "m"),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("d", "day", "days"), "d"),
}
_PERIODS: Final = {"s": "second", "m": "minute", "h": "hour", "d": "day"}
MAX_NAME: Final = 60
_NOTHING: Final = frozenset(("", "none", "nil", "off", "no", "false", "never", "disabled", "unlimited", "infinite"))


def meant(code: str, expected: str, value: object, *, whole: bool = False) -> str:
    """Return the fix for a value that was refused with `code`, where it is plain; else an empty text.

    `whole` says that the value stands where a whole pattern may.
    """
    if isinstance(value, str) and (hint := _text(value)):
        return hint
    read = _BY_CODE.get(code)
    if read:
        return read(value)
    if expected == "a percentage":
        return _percentage(value)
    if code != "AR203":
        return ""
    return (_switched(value) if whole else "") or (_number(value) if "number" in expected else "")


def _text(text: str) -> str:
    """Recognise what may be wrong with any text."""
    if re.search(r"\S#", text):
        return "write a space before the '#' of a comment"
    if text[:1] in _CURLED:
        return "write plain quotes, or none"
    if found := re.fullmatch(r"\$([A-Za-z_]\w*)", text):
        return f"write ${{{found[1]}}}"
    return "render the template first, or write ${NAME}" if _PLACEHOLDER.fullmatch(text) else ""


def _duration(value: object) -> str:
    text = str(value)
    if text.strip().lower() in _NOTHING:
        return "write null to leave it out"
    if found := _AMOUNT.fullmatch(text):
        unit = _UNITS.get(found[2].lower())
        return f"write {found[1]}{unit}" if unit else ""
    if (found := _ISO.fullmatch(text)) and any(found.groups()):
        parts = zip(found.groups(), "hms", strict=True)
        return "write " + "".join(f"{amount}{unit}" for amount, unit in parts if amount)
    return f"write {text}s, or another unit" if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) else ""


def _rate(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"write {value}/second, or another period"
    found = _RATE.fullmatch(str(value))
    unit = _UNITS.get(found[3].lower()) if found else None
    if not found or unit not in _PERIODS:
        return ""
    permits = re.sub("[_,]", "", found[1])
    if not int(permits):
        return "write a number from 1: nothing at all is no rate"
    if found[2] not in ("", "1"):
        return f"write rate: {{permits: {permits}, per: {found[2]}{unit}}}"
    return f"write {permits}/{_PERIODS[unit]}"


def _percentage(value: object) -> str:
    text = str(value).strip()
    if found := re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?(?:%|percent|pct)?", text):
        number = float(found[1])
        if "." in found[1] and number <= 1 and not text.endswith("%"):
            number *= 100
        return f"write {number:g}%" if number <= 100 else ""
    return ""


def _status(value: object) -> str:
    text = str(value).strip().lower()
    if re.fullmatch("[1-5]xx", text):
        return f"write {text[0]}00-{text[0]}99"
    found = re.fullmatch(r"([1-5][0-9]{2}) ?(?:\.\.|to|:|–|-) ?([1-5][0-9]{2})", text)
    return f"write {found[1]}-{found[2]}" if found and found[1] < found[2] else ""


_BY_CODE: Final[Mapping[str, Callable[[object], str]]] = {
    "AR205": _duration, "AR206": _rate, "AR207": _percentage, "AR208": _status,
}  # fmt: skip


def _number(value: object) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f"write {int(value)}"
    if isinstance(value, str) and re.fullmatch(r"[0-9.]+%", value):
        return "write a number; a share is said by a rate, such as failure_rate"
    if isinstance(value, str) and re.fullmatch(r"[0-9][0-9_,]*", value):
        return f"write {re.sub('[_,]', '', value)}, without quotes"
    return ""


def _switched(value: object) -> str:
    """Recognise a switch where a pattern's block stands."""
    word = str(value).lower() if isinstance(value, (bool, str)) else None
    if word in ("true", "on", "yes", "enabled", "default"):
        return "write {} for its defaults"
    if word in _NOTHING:
        return "write null to remove it, or {mode: off}" if word else ""
    named = isinstance(value, str) and re.fullmatch(r"[a-z][a-z0-9.-]*", value) and len(value) <= MAX_NAME
    return f"if it is a shared block, write {{use: {value}}}" if named else ""
