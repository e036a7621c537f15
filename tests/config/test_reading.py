import gc
import math
import re
import threading
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings, strategies as st

from aioresilience.collector import collector_paused
from aioresilience.config import parsing
from aioresilience.config.diagnostics import CATALOGUE, ConfigError
from aioresilience.config.encoding import MAX_BYTES
from aioresilience.config.reading import read, read_file, read_tree, suppressions
from aioresilience.config.scalars import plain_scalar
from aioresilience.config.tree import Items, leaves, locate

HERE = Path(__file__).parent
BAD = sorted([*HERE.glob("bad/ar1*.yaml"), *HERE.glob("bad/reading-*.yaml")])
GOOD = sorted(HERE.glob("good/*.yaml"))
PARSERS = ("libyaml", "pure")


def findings(text, **options):
    return read_tree(text, "f.yaml", **options).diagnostics


def ids(text, **options):
    return [finding.id for finding in findings(text, **options)]


def spots(root):
    return [(path, str(locate(root, path)), str(locate(root, path, key=True))) for path, _ in leaves(root)]


# the corpus


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_file_gives_exactly_this_text(path):
    reading = read_tree(path.read_bytes(), path.name)
    assert str(ConfigError(reading.diagnostics)) + "\n" == path.with_suffix(".txt").read_text("utf-8")


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_file_gives_the_same_ids_without_libyaml(path):
    data = path.read_bytes()
    assert ids(data, parser="pure") == ids(data, parser="libyaml")


def test_the_corpus_has_every_id_of_reading():
    seen = {code for path in BAD for code in ids(path.read_bytes())}
    assert seen >= {code for code in CATALOGUE if code < "AR2"} - {"AR101", "AR102"}
    assert len(BAD) >= 45


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_a_good_file_reads_the_same_with_both_parsers(path):
    data = path.read_bytes()
    fast, slow = (read(data, path.name, parser=parser) for parser in PARSERS)
    assert fast == slow
    assert spots(fast) == spots(slow)


# what a plain scalar is


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("NULL", None),
        ("nUll", "nUll"),
        ("true", True),
        ("FALSE", False),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("off", "off"),
        ("y", "y"),
        ("010", 10),
        ("-7", -7),
        ("+7", 7),
        ("0o17", 15),
        ("0x1F", 31),
        ("0b11", "0b11"),
        ("017", 17),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("1.5", 1.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e3", 1000.0),
        ("-1.5E-3", -0.0015),
        (".", "."),
        ("-", "-"),
        ("1e", "1e"),
        ("1.2.3", "1.2.3"),
        (".inf", math.inf),
        ("+.INF", math.inf),
        ("-.Inf", -math.inf),
        ("inf", "inf"),
        ("nan", "nan"),
        ("1e999", math.inf),
        ("2026-12-01T00:00:00Z", "2026-12-01T00:00:00Z"),
        ("2026-12-01", "2026-12-01"),
        ("\u0661", "\u0661"),
        ("=", "="),
        ("<<", "<<"),
    ],
)
def test_a_plain_scalar_is_what_yaml_1_2_says(text, value):
    result = plain_scalar(text)
    assert result == value
    assert type(result) is type(value)


def test_not_a_number_is_a_number_for_later_checks_to_refuse():
    assert all(math.isnan(plain_scalar(text)) for text in (".nan", ".NaN", ".NAN"))


@pytest.mark.parametrize("parser", PARSERS)
def test_quotes_and_blocks_are_text(parser):
    text = "a: '1'\nb: \"true\"\nc: |\n  2\nd: >-\n  x\n  y\ne: [no, 'null']\n'404': 5\n"
    expected = {"a": "1", "b": "true", "c": "2\n", "d": "x y", "e": ["no", "null"], "404": 5}
    assert read(text, parser=parser) == expected


# the tree


def test_everything_is_where_the_user_sees_it():
    root = read("\ufeffé: 'ü' # c\n\n😀: [a, {b: }]\n", "f")
    assert [str(root.value_place(key)) for key in root] == ["f:1:4", "f:3:4"]
    assert isinstance(root["😀"], Items)
    assert str(locate(root, ("😀", 1, "b"), key=True)) == "f:3:9"


def test_the_name_is_as_the_user_gave_it(tmp_path):
    (tmp_path / "a.yaml").write_text("a: 1\na: 2\n")
    assert read_file(tmp_path / "a.yaml", "conf/a.yaml").diagnostics[0].file == "conf/a.yaml"
    assert read_file(tmp_path / "a.yaml").source.name == str(tmp_path / "a.yaml")


@pytest.mark.parametrize("name", ["", "missing.yaml", "nul\0"])
def test_a_file_that_cannot_be_read_is_a_finding(tmp_path, name):
    reading = read_file(f"{tmp_path}/{name}")
    assert [one.id for one in reading.diagnostics] == ["AR101"]
    assert reading.root is None


def test_a_tree_with_findings_can_be_validated_further():
    reading = read_tree("a: 1\na: 2\nb: !x 3\n404: 4\nc: 5\n")
    assert [one.id for one in reading.diagnostics] == ["AR109", "AR112", "AR110"]
    assert reading.root == {"a": 2, "b": 3, "c": 5}


def test_a_syntax_error_leaves_no_tree_but_keeps_the_findings_before_it():
    reading = read_tree("a: 1\na: 2\nb: 'open\n")
    assert [one.id for one in reading.diagnostics] == ["AR109", "AR105"]
    assert reading.root is None


def test_reading_raises_all_findings_at_once():
    with pytest.raises(ConfigError) as caught:
        read("a: 1\na: 2\n1: 2\n")
    assert [one.id for one in caught.value.diagnostics] == ["AR109", "AR110"]


# aliases


def test_an_alias_is_its_anchor_at_a_place_of_its_own():
    root = read("a: &x {b: 1}\nc: *x\nd: &y 2s\ne: [*y]\n", "f")
    assert root == {"a": {"b": 1}, "c": {"b": 1}, "d": "2s", "e": ["2s"]}
    assert str(root.value_place("c")) == "f:2:4"
    assert str(root["e"].value_place(0)) == "f:4:5"


def test_an_anchor_can_be_set_anew():
    assert read("a: &x 1\nb: &x 2\nc: *x\n")["c"] == 2


def test_a_key_can_have_an_anchor():
    assert read("&k a: 1\nb: *k\n") == {"a": 1, "b": "a"}


def test_thirty_two_levels_are_read_and_one_more_is_not():
    assert ids("a: " + "[" * 31 + "]" * 31) == []
    assert ids("a: " + "[" * 32 + "]" * 32) == ["AR113"]


@pytest.mark.parametrize("parser", PARSERS)
def test_depth_counts_through_aliases(parser):
    text = "a: &a [[[[[[[[[[1]]]]]]]]]]\nb: &b [[[[[[[[[[*a]]]]]]]]]]\nc: [[[[[[[[[[*b]]]]]]]]]]\n"
    assert ids(text, parser=parser) == []
    assert ids(text + "d: {e: [*b]}\nf: &f [[[[[[[[*b]]]]]]]]\ng: [[[[*f]]]]\n", parser=parser) == ["AR113"]


# syntax errors, both parsers


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\n" + "9" * 101 + ": 2\n", "is not a string"),
        ('a: "\\U99999999"\n', "does not begin an escape"),
        ("a: 1\n\tb: 2\n", "a tab indents this line"),
        ("a:\n  - x\n \t- y\n", "a tab indents this line"),
        ("- a\n  b: c\n", "no 'key: value'|second ':'|no key can be"),
        ("a: |x\n", "after '|' or '>' is not valid"),
        ("a: [1\n  b: 2\nc: 3\n", "is not closed"),
        ("? a\n? b: c: d\n", "second ':'|no key can be"),
        ("a: b\n\nc: 'x\n", "never closed"),
        ("x:\n  a:\xa02s\n  b: 1\n", r"no 'key: value'\n.*a:\\xa02s"),
        ("# a\n\n  k : v : w\n", "second ':'"),
        ("a: !<x y\n", "tags are not allowed"),
        ("%FOO\na: %x\n", "directive|cannot begin|does not belong"),
    ],
)
def test_a_syntax_error_is_explained(text, message, parser):
    reading = read_tree(text, "f", parser=parser)
    assert re.search(message, str(ConfigError(reading.diagnostics)))


# limits


def bombs():
    size = MAX_BYTES
    yield "laughs", "a0: &a0 [1, 1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60)), "AR114"
    yield "aliases", "a: &a [1, 2, 3]\nb: [" + "*a," * 100_000 + "]", "AR114"
    yield "values", "a: [" + "1," * (size // 2 - 10) + "]", "AR114"
    yield "brackets", "[" * size, "AR113"
    yield "braces", "{" * size, "AR107"
    yield "dashes", "- " * (size // 2), "AR113"
    yield "question marks", "? " * (size // 2), "AR113"
    yield "digits", "a: " + "9" * (size - 10), "AR121"
    yield "unclosed quote", "a: '" + "x " * (size // 2 - 10), "AR105"
    yield "quotes", '"' * size, "AR105"
    yield "colons", "a:" * (size // 2), "AR105"
    yield "lines", "\n" * size, "AR118"
    yield "nul", "\0" * size, "AR104"
    yield "size", "#" * (size + 1), "AR102"
    yield "bytes", b"\xff" * size, "AR103"
    yield "duplicates", "a: 1\n" * (size // 5), "AR199"
    yield "templates", "{{" * (size // 2), "AR107"
    yield "tags", "a: !x 1\n" * (size // 8), "AR199"


@pytest.mark.parametrize(("text", "code"), [bomb[1:] for bomb in bombs()], ids=[bomb[0] for bomb in bombs()])
def test_a_bomb_is_refused_in_time(text, code):
    started = time.process_time()
    reading = read_tree(text, "f.yaml")
    shown = str(ConfigError(reading.diagnostics))
    assert code in [one.id for one in reading.diagnostics]
    assert len(shown) < 60_000
    assert time.process_time() - started < 5  # a second with much to spare for a busy machine


@pytest.mark.parametrize("text", ["a: é\n", b"a: \xc3\xa9\n"])
def test_the_limit_counts_bytes(text):
    assert ids(text, max_bytes=6) == []
    assert ids(text, max_bytes=5) == ["AR102"]


def test_a_file_is_read_no_further_than_its_limit(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"#" * 100)
    assert [one.id for one in read_file(tmp_path / "a.yaml", max_bytes=99).diagnostics] == ["AR102"]
    assert [one.id for one in read_file(tmp_path / "a.yaml", max_bytes=100).diagnostics] == ["AR118"]


def test_reading_gives_way_about_every_millisecond():
    breaths = []
    text = "".join(f"policy-{i}: {{timeout: 2s, retry: {{max_attempts: 3}}}}\n" for i in range(2000))
    read(text, breathe=lambda: breaths.append(1))
    assert len(breaths) >= len(text) // 5000


# the collector


def test_the_collector_is_paused_while_a_tree_grows_and_runs_again_after():
    seen = []
    read("a: 1\n", breathe=lambda: seen.append(gc.isenabled()))
    assert seen[-1] is False
    assert gc.isenabled()


def test_the_collector_runs_again_after_an_error():
    findings("a: 'open")
    assert gc.isenabled()


def test_a_paused_collector_nests_across_threads():
    held, release = threading.Event(), threading.Event()

    def hold():
        with collector_paused():
            held.set()
            release.wait(60)

    thread = threading.Thread(target=hold)
    with collector_paused():
        thread.start()
        held.wait(60)
    assert not gc.isenabled()
    release.set()
    thread.join()
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    try:
        read("a: 1\n")
        assert not gc.isenabled()
    finally:
        gc.enable()


# suppressions


@pytest.mark.parametrize("parser", PARSERS)
def test_suppressions_are_found_in_comments_only(parser):
    text = (
        'a: "x # aioresilience: ignore[AR401] no"\n'
        "b: |\n"
        "  # aioresilience: ignore[AR402] no\n"
        "# aioresilience: ignore[AR403] on a line of its own\n"
        "c: 1 # aioresilience: ignore[AR404, AR405]  because of INC-1 \n"
        "d: x#aioresilience:ignore[AR406]\n"
        "'e # aioresilience: ignore[AR407]': 1 #aioresilience:ignore\n"
        "f: 1 # just a comment\n"
    )
    found = suppressions(read_tree(text, "f", parser=parser).source)
    assert [(one.line, one.ids, one.reason) for one in found] == [
        (4, ("AR403",), "on a line of its own"),
        (5, ("AR404", "AR405"), "because of INC-1"),
        (7, (), ""),
    ]
    assert str(found[1].place) == "f:5:6"


def test_a_text_without_suppressions_has_none():
    assert suppressions(read_tree("a: 1 # ignore\n").source) == ()


# both parsers, and anything at all

words = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\x85\u2028\u2029\ufeff"), max_size=20
)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), words)
documents = st.dictionaries(
    words, st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4))
)


def is_our_template(value):
    if isinstance(value, dict):
        return any(map(is_our_template, (*value, *value.values())))
    if isinstance(value, list):
        return any(map(is_our_template, value))
    return isinstance(value, str) and ("{{" in value or "{%" in value)


class Dumper(yaml.SafeDumper):
    """Quotes every text, as YAML 1.1 and 1.2 differ about what an unquoted one is, and repeats instead of aliasing."""

    def ignore_aliases(self, data):
        return True


Dumper.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))


@settings(deadline=None)
@given(
    documents.filter(lambda document: not is_our_template(document)),
    st.booleans(),
    st.sampled_from([None, True, False]),
)
def test_what_yaml_dumps_is_read_the_same(document, allow_unicode, flow):
    text = yaml.dump(document, Dumper=Dumper, allow_unicode=allow_unicode, default_flow_style=flow)
    trees = [read(text, parser=parser) for parser in PARSERS]
    assert trees == [document, document]
    assert spots(trees[0]) == spots(trees[1])


pieces = [
    "a",
    "b: ",
    "- ",
    "\n",
    "  ",
    "{",
    "}",
    "[",
    "]",
    "'",
    '"',
    "&x ",
    "*x ",
    "!t ",
    "? ",
    ": ",
    "#",
    "|\n",
    "---\n",
]
pieces += [
    "${X}",
    "{{ x }}",
    "{% if %}",
    "\t",
    "<<: ",
    "1",
    "~",
    "\u2028",
    "\ufeff",
    "😀",
    "\0",
    "\\",
    "\ud800",
    "%",
    "@",
]
junk = st.lists(st.sampled_from(pieces), max_size=20).map("".join)


@settings(deadline=None)
@given(st.one_of(st.text(), st.binary(), junk), st.sampled_from(PARSERS))
def test_anything_ends_in_a_tree_or_in_findings(text, parser):
    reading = read_tree(text, parser=parser)
    assert (reading.root is None) <= bool(reading.diagnostics)
    assert all(char.isprintable() or char == "\n" for char in str(ConfigError(reading.diagnostics)))


@settings(deadline=None)
@given(junk)
def test_both_parsers_accept_the_same_texts(text):
    fast, slow = (read_tree(text, parser=parser) for parser in PARSERS)
    if not fast.diagnostics and not slow.diagnostics:
        assert fast.root == slow.root


@pytest.mark.parametrize(
    "text",
    [
        "a:\t1\n",
        "a: x\ty\n",
        "a: 1\t# c\n",
        "a: |\t\n  x\n",
        "a: >-2\t# c\n   x\n",
        "a: |2\n   x\n",
        "a: |+ \n x\n\n",
        "a: [x?y, http://h/?q]\n",
        "a: x\n  y\n",
    ],
)
def test_the_pure_parser_knows_what_libyaml_knows(text):
    assert read(text, parser="pure") == read(text, parser="libyaml")


def test_without_libyaml_the_pure_parser_is_taken(monkeypatch):
    monkeypatch.setattr(parsing, "cyaml", None)
    assert read("a: 1\n") == {"a": 1}
    with pytest.raises(ImportError, match="without libyaml"):
        read("a: 1\n", parser="libyaml")


def test_ten_thousand_policies_are_read_quickly():
    policy = """
    about: {{owner: team-{0}}}
    timeout: 2s
    deadline: 5s
    retry: {{max_attempts: 3, initial_delay: 100ms}}
    circuit_breaker:
      window: 30s
      failure_rate: 50%
    bulkhead: 10
    rate_limiter: 100/second
    idempotent: false"""
    text = "version: 1\npolicies:" + "".join(f"\n  service-{i}:{policy.format(i % 50)}" for i in range(10_000))
    started = time.process_time()
    root = read(text, max_bytes=64 * 2**20)
    assert len(root["policies"]) == 10_000
    assert time.process_time() - started < 4  # half a second on a quiet machine; the benchmark holds the figure
