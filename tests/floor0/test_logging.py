"""The library's log: silent until asked, harmless always, and never a place to forge lines in."""

from __future__ import annotations

import io
import logging as stdlib_logging
import subprocess
import sys

import pytest

from aioresilience import logging as library_logging
from aioresilience.logging import (
    configure_logging,
    describe,
    disable_logging,
    escape,
    is_logging_enabled,
    log_error,
    log_event,
    set_error_handler,
)

ROOT = stdlib_logging.getLogger("aioresilience")


@pytest.fixture(autouse=True)
def as_imported():
    yield
    disable_logging()
    ROOT.setLevel(stdlib_logging.NOTSET)


@pytest.fixture
def lines():
    stream = io.StringIO()
    configure_logging(handler=stdlib_logging.StreamHandler(stream), format_string="%(levelname)s %(name)s %(message)s")
    return lambda: stream.getvalue().splitlines()


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def raised(error):
    try:
        raise error
    except Exception as caught:
        return caught


def test_nothing_is_written_before_somebody_asks():
    code = "from aioresilience.logging import *; log_error('x', ValueError('y')); log_event('x', 50, 'z')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


def test_the_library_logger_carries_a_null_handler():
    assert any(isinstance(handler, stdlib_logging.NullHandler) for handler in ROOT.handlers)
    assert not is_logging_enabled()


def test_the_standard_library_is_not_shadowed():
    assert library_logging.logging is stdlib_logging


def test_configure_logging_writes_to_standard_error(capsys):
    configure_logging()
    log_event("aioresilience.registry", stdlib_logging.INFO, "reload applied")
    err = capsys.readouterr().err
    assert "INFO aioresilience.registry: reload applied" in err


def test_configure_logging_replaces_what_it_configured_before(lines):
    other = io.StringIO()
    configure_logging(handler=stdlib_logging.StreamHandler(other))
    log_event("aioresilience", stdlib_logging.INFO, "once")
    assert lines() == []
    assert other.getvalue().count("once") == 1


def test_a_handler_keeps_its_own_format_unless_one_is_given():
    handler = stdlib_logging.StreamHandler(io.StringIO())
    handler.setFormatter(own := stdlib_logging.Formatter("%(message)s"))
    configure_logging(handler=handler)
    assert handler.formatter is own


def test_a_bad_format_is_refused_and_changes_nothing(lines):
    with pytest.raises(ValueError, match=r"[Ff]ormat"):
        configure_logging(format_string="no field in it")
    log_event("aioresilience", stdlib_logging.INFO, "still here")
    assert lines() == ["INFO aioresilience still here"]


def test_the_level_filters(lines):
    ROOT.setLevel(stdlib_logging.ERROR)
    log_event("aioresilience", stdlib_logging.WARNING, "too quiet")
    assert lines() == []


def test_is_logging_enabled_follows_configure_and_disable(lines):
    assert is_logging_enabled()
    disable_logging()
    assert not is_logging_enabled()


def test_disabled_logging_writes_nothing_to_the_root_logger_either(caplog):
    disable_logging()
    log_error("aioresilience", ValueError("hidden"))
    assert caplog.records == []


def test_unconfigured_logging_reaches_the_handlers_of_the_application(caplog):
    log_error("aioresilience.events", ValueError("seen"), handler="h")
    assert "ValueError: seen" in caplog.text


def test_an_error_line_says_what_and_where(lines):
    log_error("aioresilience.events", ValueError("boom"), handler="notify", event="state_change")
    assert lines()[0] == "ERROR aioresilience.events ValueError: boom (handler=notify event=state_change)"


def test_names_from_outside_are_put_under_the_library(lines):
    log_event("acme", stdlib_logging.WARNING, "hello")
    assert lines() == ["WARNING aioresilience.acme hello"]


def test_a_percent_sign_is_no_format(lines):
    log_event("aioresilience", stdlib_logging.WARNING, "100 %s")
    assert lines() == ["WARNING aioresilience 100 %s"]


def test_a_message_cannot_forge_a_line(lines):
    log_event("aioresilience", stdlib_logging.WARNING, "key=a\nERROR aioresilience forged\x1b[2J\u2028\u202e")
    assert lines() == [r"WARNING aioresilience key=a\nERROR aioresilience forged\x1b[2J\u2028\u202e"]


def test_an_error_its_context_and_its_traceback_cannot_forge_a_line(lines):
    error = raised(ValueError("a\nERROR forged"))
    log_error("aioresilience", error, key="b\r\nERROR forged")
    assert [line for line in lines() if not line.startswith("    ")] == [
        r"ERROR aioresilience ValueError: a\nERROR forged (key=b\r\nERROR forged)"
    ]


def test_the_traceback_shows_the_cause(lines):
    error = ValueError("outer")
    error.__cause__ = raised(KeyError("inner"))
    log_error("aioresilience", raised(error))
    assert any("KeyError: 'inner'" in line for line in lines())


def test_a_handler_of_the_log_that_raises_is_harmless():
    class Broken(stdlib_logging.Handler):
        def emit(self, record):
            raise RuntimeError("disk full")

    configure_logging(handler=Broken())
    log_error("aioresilience", ValueError("x"))


def test_an_error_without_text_is_still_reported(lines):
    log_error("aioresilience", Unprintable(), value=Unprintable())
    assert lines()[0] == "ERROR aioresilience Unprintable: <Unprintable> (value=<Unprintable>)"


def test_the_sink_gets_name_error_and_context():
    told = []
    set_error_handler(lambda name, error, **context: told.append((name, error, context)))
    log_error("aioresilience.events", error := ValueError("x"), handler="h")
    assert told == [("aioresilience.events", error, {"handler": "h"})]


def test_a_sink_without_keywords_gets_the_context_as_a_dict():
    told = []
    set_error_handler(lambda name, error, context: told.append(context))
    log_error("aioresilience", ValueError("x"), handler="h")
    assert told == [{"handler": "h"}]


def test_a_sink_replaces_the_log(lines):
    set_error_handler(lambda *args, **context: None)
    log_error("aioresilience", ValueError("x"))
    assert lines() == []
    set_error_handler(None)
    log_error("aioresilience", ValueError("y"))
    assert lines()[0] == "ERROR aioresilience ValueError: y"


def test_a_sink_that_raises_is_harmless_and_the_log_gets_both_errors(lines):
    def sink(name, error, **context):
        raise RuntimeError("sink down")

    set_error_handler(sink)
    log_error("aioresilience", ValueError("x"))
    heads = [line for line in lines() if line.startswith("ERROR")]
    assert heads == [
        "ERROR aioresilience error handler failed: RuntimeError: sink down",
        "ERROR aioresilience ValueError: x",
    ]


def test_a_builtin_is_a_sink(capsys):
    set_error_handler(print)
    log_error("aioresilience", ValueError("x"))
    assert capsys.readouterr().out == "aioresilience x {}\n"


def test_a_sink_that_cannot_say_what_it_takes_is_harmless(lines):
    set_error_handler({}.update)
    log_error("aioresilience", ValueError("x"))
    assert lines()[-1] == "    ValueError: x"


def test_what_nobody_hears_is_not_even_formatted(monkeypatch):
    monkeypatch.setattr(ROOT, "propagate", False)
    monkeypatch.setattr("traceback.format_exception", pytest.fail)
    log_error("aioresilience", ValueError("x"))


async def _async_sink(name, error, **context):
    pass


@pytest.mark.parametrize("sink", ["no function", _async_sink])
def test_what_cannot_be_a_sink_is_refused(sink):
    with pytest.raises(TypeError, match="plain function"):
        set_error_handler(sink)


def test_printable_text_is_left_as_it_is():
    assert escape("naïve – 日本語 100 %") == "naïve – 日本語 100 %"


def test_lone_surrogates_are_escaped():
    assert escape("\ud800") == r"\ud800"


def test_an_error_without_message_is_described_by_its_type():
    assert describe(ValueError()) == "ValueError"


def again_and_again(times: int, error: type[Exception] = ValueError) -> None:
    for number in range(times):
        try:
            raise error(f"broken callback of call {number}")
        except Exception as caught:
            log_error("aioresilience.test", caught, key=f"user-{number}")


def test_an_error_that_comes_at_every_call_is_written_five_times(lines, monkeypatch):
    now = [1_000.0]
    monkeypatch.setattr(library_logging.time, "monotonic", lambda: now[0])
    again_and_again(10_000)
    assert sum(line.startswith("ERROR") for line in lines()) == library_logging.BURST
    now[0] += library_logging.PERIOD
    again_and_again(1)
    assert any("[9995 more like it were not written]" in line for line in lines())


def test_errors_of_another_kind_or_from_elsewhere_are_written_all_the_same(lines):
    again_and_again(50)
    again_and_again(1, KeyError)
    log_error("aioresilience.test", raised(ValueError("elsewhere")))
    heads = [line for line in lines() if line.startswith("ERROR")]
    assert len(heads) == library_logging.BURST + 2


def test_the_kinds_that_are_remembered_are_bounded(lines):
    for number in range(1000):
        log_error(f"aioresilience.test{number}", ValueError("x"))
    assert len(library_logging._kinds) <= library_logging.MAX_KINDS


def test_a_sink_of_one_s_own_gets_every_error():
    seen = []
    set_error_handler(lambda name, exception, **context: seen.append(exception))
    again_and_again(100)
    assert len(seen) == 100


def test_what_nobody_hears_is_not_counted():
    disable_logging()
    again_and_again(20)
    assert library_logging._kinds == {}
