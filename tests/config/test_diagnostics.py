import pickle
import re
from pathlib import Path

import pytest

import aioresilience.config
from aioresilience.config.diagnostics import (
    CATALOGUE,
    FOREIGN,
    ConfigError,
    Diagnostic,
    diagnose,
    hint_for_key,
    mask,
    printable,
    suggest,
)
from aioresilience.config.reading import read
from aioresilience.config.tree import Place, Source, locate, merge

RETRY = (
    "max_attempts",
    "initial_delay",
    "max_delay",
    "backoff_multiplier",
    "strategy",
    "jitter",
    "retry_on_exceptions",
)
BREAKER = ("failure_rate", "failure_threshold", "minimum_calls", "recovery_timeout", "window", "half_open_max_calls")


def finding(text, token, message="wrong", **kwargs):
    source = Source("f.yaml", text)
    return diagnose("AR201", source.place(text.index(token), len(token)), message, **kwargs)


def test_an_error_looks_as_promised():
    text = "\n" * 13 + "      max_atempts: 3\n"
    shown = finding(
        text,
        "max_atempts",
        "unknown field 'max_atempts'",
        path=("policies", "payments", "retry"),
        hint="did you mean 'max_attempts'?",
    )
    assert str(shown) == (
        "f.yaml:14:7: error AR201 policies.payments.retry: unknown field 'max_atempts'\n"
        "   14 |       max_atempts: 3\n"
        "      |       ^^^^^^^^^^^ did you mean 'max_attempts'?"
    )


def test_a_place_without_a_file_has_no_picture():
    place = Place("environment", "AIORESILIENCE_POLICIES__X__TIMEOUT")
    shown = diagnose("AR205", place, "this is not a duration", hint="write 2s", path="policies.x.timeout")
    assert str(shown) == (
        "environment AIORESILIENCE_POLICIES__X__TIMEOUT: error AR205 policies.x.timeout: this is not a duration\n"
        "      = write 2s"
    )
    fix = "write for example 500ms, 2s or 1m30s"
    assert str(diagnose("AR205", None, "wrong")) == f"code <unknown>: error AR205: wrong\n      = {fix}"


def test_a_merged_value_shows_what_it_lies_over():
    merged = merge(read("a: 1\n", "low.yaml"), read("a: x\n", "high.yaml"))
    shown = str(diagnose("AR203", locate(merged, ("a",)), "a number is expected"))
    assert shown.splitlines()[-1] == "      = lies over low.yaml:1:4"


def test_a_high_line_number_keeps_the_caret_in_place():
    lines = str(finding("\n" * 1_234_566 + "a: bad\n", "bad")).splitlines()
    assert lines[1].index("bad") == lines[2].index("^^^")


def test_control_and_direction_characters_never_reach_a_terminal():
    shown = str(finding("a: \x1b[2J\u202e\x07bad\n", "bad", "also \x1b here", hint="and \r\nthere"))
    assert all(char.isprintable() or char == "\n" for char in shown)
    assert len(shown.splitlines()) == 3
    assert "\\x1b[2J\\u202e\\x07bad" in shown


def test_the_caret_stands_under_the_token_after_tabs_and_wide_characters():
    picture = str(finding("a:\t支払 bad\n", "bad", hint="no")).splitlines()[1:]
    assert picture[0] == "    1 | a:    支払 bad"
    assert picture[1] == "      | " + " " * len("a:    ") + " " * 4 + " ^^^ no"
    assert str(finding("e\u0301 bad", "bad", hint="no")).splitlines()[2] == "      |   ^^^ no"


def test_very_long_lines_are_clipped_around_the_caret():
    shown = str(finding("a" * 50_000 + "BAD" + "b" * 50_000, "BAD")).splitlines()
    assert all(len(line) < 130 for line in shown)
    assert shown[1].index("BAD") == shown[2].index("^^^")
    assert shown[1].startswith("    1 | ...")
    assert shown[1].endswith("...")


def test_a_very_long_token_is_clipped():
    assert all(len(line) < 130 for line in str(finding("a: " + "x" * 9000, "x" * 9000, hint="no")).splitlines())


def test_secrets_are_masked_in_every_part():
    secret = "s3cr3t-value"
    one = finding(f"url: '{secret}' bad\n", "bad", f"got {secret}", hint=f"not {secret}", secrets=frozenset([secret]))
    lines = str(one).splitlines()
    assert secret not in str(one)
    assert lines[1].index("bad") == lines[2].index("^^^")


def test_a_token_that_is_a_secret_is_masked_under_its_caret():
    one = finding("url: s3cr3t bad\n", "s3cr3t", hint="no", secrets=frozenset(["s3cr3t"]))
    assert str(one).splitlines()[1:] == ["    1 | url: *** bad", "      |      ^^^ no"]


def test_secrets_of_an_error_reach_all_its_findings():
    error = ConfigError([finding("a: hunter2 bad", "bad")], secrets=["hunter2", ""])
    assert "hunter2" not in str(error)
    assert "***" in str(error)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:hunter2@host/0", "redis://:***@host/0"),
        ("redis://app:p@ss@host/0", "redis://app:***@host/0"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("a: https://example.invalid/x b: c@d", "a: https://example.invalid/x b: c@d"),
        ("password: hunter2", "password: ***"),
        ("  'password': \"hunter2\", a: 1", "  'password': ***, a: 1"),
        ("password: ${REDIS_PASSWORD}", "password: ${REDIS_PASSWORD}"),
        ("password: {file: /run/secrets/x}", "password: {file: /run/secrets/x}"),
    ],
)
def test_passwords_are_masked_without_being_told(text, shown):
    assert mask(text) == shown


def test_longer_secrets_are_masked_before_their_parts():
    assert mask("abcdef", ["abc", "abcdef"]) == "***"


def test_an_error_holds_every_finding_sorted_by_position():
    source = Source("f", "a\nb c\n")
    error = ConfigError([diagnose("AR201", source.place(at), str(at)) for at in (4, 0, 2)])
    assert [one.message for one in error.diagnostics] == ["0", "2", "4"]
    assert isinstance(error, ValueError)
    assert str(error) == "\n".join(map(str, error.diagnostics))


def test_a_diagnostic_is_a_frozen_value_that_compares_by_what_it_says():
    one = Diagnostic("AR201", "error", "f", 1, 1, "a", "wrong", "mend it")
    assert one == Diagnostic("AR201", "error", "f", 1, 1, "a", "wrong", "mend it", excerpt="a: 1")
    assert pickle.loads(pickle.dumps(one)) == one
    with pytest.raises(AttributeError):
        one.id = "AR202"


def test_an_error_can_be_pickled():
    error = ConfigError([finding("a: bad", "bad")])
    assert pickle.loads(pickle.dumps(error)).diagnostics == error.diagnostics
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_note_can_be_made_of_an_error():
    assert diagnose("AR308", None, "not set", severity="note").severity == "note"


def test_every_id_in_the_code_is_in_the_catalogue_and_every_reading_id_is_used():
    folder = Path(aioresilience.config.__file__ or next(iter(aioresilience.config.__path__))).parent
    texts = [path.read_text("utf-8") for path in folder.glob("*.py") if not path.name.startswith("catalogue")]
    used = set(re.findall(r'"(AR\d{3})"', "\n".join(texts)))
    assert used <= set(CATALOGUE)
    assert {code for code in CATALOGUE if code < "AR2"} <= used


def test_the_catalogue_explains_every_id_in_sentences():
    for code, entry in CATALOGUE.items():
        assert re.fullmatch(r"AR[1-4]\d\d", code)
        assert all(text.endswith(".") for text in (entry.title, entry.cause, entry.fix)), code
        assert (entry.severity == "error") or code >= "AR4", code
    assert list(CATALOGUE) == sorted(CATALOGUE)
    assert len({entry.title for entry in CATALOGUE.values()}) == len(CATALOGUE)


@pytest.mark.parametrize(
    ("word", "valid", "meant"),
    [
        ("max_atempts", RETRY, "max_attempts"),
        ("maxAttempts", RETRY, "max_attempts"),
        ("max-attempts", RETRY, "max_attempts"),
        ("max_retries", RETRY, "max_attempts"),
        ("maxRetries", RETRY, "max_attempts"),
        ("wait_duration", RETRY, "initial_delay"),
        ("failureRateThreshold", BREAKER, "failure_rate"),
        ("waitDurationInOpenState", BREAKER, "recovery_timeout"),
        ("zzz", RETRY, None),
        ("", RETRY, None),
        ("x" * 100_000, RETRY, None),
    ],
)
def test_near_and_foreign_names_are_recognised(word, valid, meant):
    assert suggest(word, valid) == meant
    assert suggest(word, list(reversed(valid))) == meant


def test_hints_say_what_kind_of_mistake_it_was():
    levels = {"retry": RETRY, "circuit_breaker": BREAKER}
    assert hint_for_key("max_atempts", RETRY) == "did you mean 'max_attempts'?"
    assert hint_for_key("maxRetries", RETRY) == "'max_attempts' is the name for it here"
    assert hint_for_key("window", RETRY, levels) == "'window' belongs under circuit_breaker"
    assert hint_for_key("max_retries", ("timeout",), levels) == "'max_attempts' under retry is the name for it here"
    assert hint_for_key("qqq", RETRY, levels) == ""


def test_foreign_spellings_are_in_the_form_they_are_looked_up_in():
    assert all(re.fullmatch(r"[a-z0-9_]+", word) for word in FOREIGN)
    assert all(word != ours for word, ours in FOREIGN.items())


def test_printable_text_is_left_alone():
    assert printable("Zahlung 支払い 😀") == "Zahlung 支払い 😀"
