import math

import pytest
from hypothesis import given, strategies as st

from aioresilience import units


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("500ms", 0.5),
        ("2s", 2.0),
        ("1m30s", 90.0),
        ("1h", 3600.0),
        ("1h30m", 5400.0),
        ("1d", 86400.0),
        ("1.5s", 1.5),
        ("0s", 0.0),
        ("1d1h1m1s1ms", 90061.001),
    ],
)
def test_a_duration_is_its_seconds(text, expected):
    assert units.parse_duration(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2",
        "s",
        "2 s",
        " 2s",
        "2s ",
        "2s\n",
        "2S",
        "30s1m",
        "1m1m",
        "-2s",
        "+2s",
        "2us",
        "2sec",
        "1,5s",
        ".5s",
        "1e3s",
        "nan",
        "inf",
        "infs",
        "٢s",
        "²s",
        "9" * 399 + "d",
        "9" * 500 + "s",
        None,
        2,
        True,
        ["2s"],
    ],
)
def test_what_is_no_duration_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match=r"500ms, 2s|longer than"):
        units.parse_duration(text)


@given(st.floats(min_value=0, allow_nan=False, allow_infinity=False))
def test_a_duration_reads_back_to_the_very_same_seconds(value):
    assert units.parse_duration(units.format_duration(value)) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "500ms"), (2, "2s"), (90, "1m30s"), (3600, "1h"), (0, "0s"), (1.5, "1s500ms"), (-0.0, "0s")],
)
def test_a_duration_is_written_as_people_would(value, text):
    assert units.parse_duration(text) == units.parse_duration(units.format_duration(value))


def test_durations_are_written_with_the_largest_units_first():
    written = [units.format_duration(value) for value in (0.25, 2, 61.5, 90061, 86400, 0.0)]
    assert written == ["250ms", "2s", "1m1.5s", "1d1h1m1s", "1d", "0s"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1, -0.1, True, False, None, [], 10**400, b"2s"])
def test_seconds_are_finite_and_not_negative(value):
    with pytest.raises(ValueError, match="is not a duration"):
        units.seconds(value)


def test_seconds_take_numbers_and_texts():
    assert [units.seconds(value) for value in (2, 0.5, "500ms", 0)] == [2.0, 0.5, 0.5, 0.0]
    assert math.copysign(1, units.seconds(-0.0)) == 1


@pytest.mark.parametrize(
    ("text", "rate"),
    [("100/second", (100, 1)), ("1/minute", (1, 60)), ("5/hour", (5, 3600)), ("7/day", (7, 86400))],
)
def test_a_rate_is_permits_and_a_period(text, rate):
    assert units.parse_rate(text) == rate
    assert units.format_rate(units.parse_rate(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "100",
        "0/second",
        "-1/second",
        "1.5/second",
        "100/sec",
        "100/seconds",
        "100 / second",
        "1/5m",
        "/day",
        5,
        None,
        True,
        "1/second\n",
        "9" * 200 + "/day",
    ],
)
def test_what_is_no_rate_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="as in 100/second"):
        units.parse_rate(text)


def test_a_period_without_a_name_cannot_be_written_as_a_rate():
    with pytest.raises(ValueError, match="not per 5m"):
        units.format_rate(units.Rate(300, 300.0))


@given(st.floats(min_value=0, allow_nan=False, allow_infinity=False, max_value=1e300))
def test_a_percentage_reads_back_to_the_very_same_fraction(fraction):
    assert units.parse_percentage(units.format_percentage(fraction)) == fraction


def test_a_percentage_is_a_fraction():
    assert [units.parse_percentage(text) for text in ("50%", "0%", "100%", "0.5%", "150%")] == [0.5, 0, 1, 0.005, 1.5]
    assert units.format_percentage(0.5) == "50%"


@pytest.mark.parametrize("text", ["", "50", "%", "-5%", "5 %", "nan%", "5%%", "%5", 0.5, None, True, "9" * 500 + "%"])
def test_what_is_no_percentage_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="as in 50%"):
        units.parse_percentage(text)


def test_a_percentage_beyond_any_float_is_refused():
    with pytest.raises(ValueError, match="larger than any"):
        units.parse_percentage("9" * 390 + "%")


@pytest.mark.parametrize("fraction", [math.nan, math.inf, -0.5, True, "50%"])
def test_only_a_finite_fraction_can_be_written(fraction):
    with pytest.raises(ValueError, match="finite and 0 or more"):
        units.format_percentage(fraction)


@pytest.mark.parametrize(
    ("value", "first", "last"), [(502, 502, 502), ("502", 502, 502), ("502-504", 502, 504), ("429-429", 429, 429)]
)
def test_a_status_is_a_code_or_a_range(value, first, last):
    codes = units.parse_status(value)
    assert (codes[0], codes[-1]) == (first, last)


@pytest.mark.parametrize("value", [99, 600, "5xx", "502-", "-502", "502 - 504", "600-601", True, 502.0, None, "50"])
def test_what_is_no_status_is_refused_with_an_example(value):
    with pytest.raises(ValueError, match="as in 502-504"):
        units.parse_status(value)


def test_an_empty_range_of_statuses_says_which_way_round():
    with pytest.raises(ValueError, match="502-504"):
        units.parse_status("504-502")


def test_long_wrong_values_are_shown_short():
    with pytest.raises(ValueError, match="is not a duration") as caught:
        units.seconds("x" * 10_000)
    assert len(str(caught.value)) < 200
