import pytest

from aioresilience.config.reading import read
from aioresilience.config.tree import (
    NOWHERE,
    Block,
    Items,
    Place,
    child,
    format_path,
    from_plain,
    leaves,
    locate,
    merge,
    nest,
    resolve,
    walk,
)

BASE = """version: 1
policies:
  card.payments:
    timeout: 2s
    retry: {max_attempts: 3, jitter: full}
    order: [retry, timeout]
  search: {timeout: 1s}
"""
LATER = """policies:
  card.payments:
    timeout: 3s
    retry: {max_attempts: 5}
    order: [timeout, retry]
    bulkhead: 10
"""


def tree(text=BASE, name="base.yaml"):
    return read(text, name)


def test_a_block_is_a_plain_dict_that_knows_where_its_keys_and_values_are():
    root = tree()
    policy = walk(root, ("policies", "card.payments"))
    assert policy == {"timeout": "2s", "retry": {"max_attempts": 3, "jitter": "full"}, "order": ["retry", "timeout"]}
    assert str(policy.key_place("timeout")) == "base.yaml:4:5"
    assert str(policy.value_place("timeout")) == "base.yaml:4:14"
    assert policy.key_place("timeout").text() == "timeout"
    assert policy.value_place("timeout").text() == "2s"
    assert policy["order"].value_place(1).text() == "timeout"


def test_quoted_keys_and_values_keep_the_place_of_their_quotes():
    root = read("\"a \\\" b\": 'it''s'\n")
    assert root.key_place('a " b').text() == '"a \\" b"'
    assert root.value_place('a " b').text() == "'it''s'"


def test_what_is_not_there_is_nowhere():
    assert Block().key_place("a") == NOWHERE
    assert Items().value_place(0) == NOWHERE
    assert locate(Block(), ()) == NOWHERE


def test_merging_is_deep_for_blocks_and_replaces_lists_and_scalars():
    merged = merge(tree(), read(LATER, "later.yaml"))
    assert merged["policies"]["card.payments"] == {
        "timeout": "3s",
        "retry": {"max_attempts": 5, "jitter": "full"},
        "order": ["timeout", "retry"],
        "bulkhead": 10,
    }
    assert merged["policies"]["search"] == {"timeout": "1s"}
    assert merged["version"] == 1


def test_a_merged_leaf_keeps_its_place_and_the_chain_of_what_it_shadows():
    override = nest(["policies", "card.payments", "timeout"], "9s", Place("override", "INC-4711"))
    merged = merge(merge(tree(), read(LATER, "later.yaml")), override)
    place = locate(merged, ("policies", "card.payments", "timeout"))
    assert [str(one) for one in place.chain()] == ["override INC-4711", "later.yaml:3:14", "base.yaml:4:14"]
    kept = locate(merged, ("policies", "card.payments", "retry", "jitter"))
    assert [str(one) for one in kept.chain()] == ["base.yaml:5:38"]
    added = locate(merged, ("policies", "card.payments", "bulkhead"))
    assert str(added) == "later.yaml:6:15"


def test_a_chain_that_exists_already_is_continued():
    lower = merge(read("a: 1\n", "1.yaml"), read("a: 2\n", "2.yaml"))
    upper = merge(read("a: 3\n", "3.yaml"), read("a: 4\n", "4.yaml"))
    chain = merge(lower, upper).value_place("a").chain()
    assert [place.name for place in chain] == ["4.yaml", "3.yaml", "2.yaml", "1.yaml"]


def test_merging_changes_neither_side():
    low, high = tree(), read(LATER, "later.yaml")
    merge(low, high)
    assert low == tree()
    assert high == read(LATER)
    assert str(locate(low, ("policies", "card.payments", "timeout"))) == "base.yaml:4:14"


def test_places_survive_whichever_side_is_the_larger():
    small, large = read("a: 1\n", "small.yaml"), read("b: 2\nc: 3\nd: 4\n", "large.yaml")
    for merged in (merge(small, large), merge(large, small)):
        assert str(merged.value_place("a")) == "small.yaml:1:4"
        assert str(merged.value_place("c")) == "large.yaml:2:4"
        assert str(merged.key_place("d")) == "large.yaml:3:1"


def test_untouched_blocks_are_shared():
    low = tree()
    assert merge(low, read(LATER))["policies"]["search"] is low["policies"]["search"]


def test_null_replaces_and_stays_unless_it_removes():
    low, high = read("fallback: {value: 1}\ntimeout: 2s\n"), read("fallback: null\n")
    assert merge(low, high) == {"fallback": None, "timeout": "2s"}
    assert merge(low, high, null_removes=True) == {"timeout": "2s"}
    assert set(merge(low, high, null_removes=True).places) == {"timeout"}


def test_null_with_nothing_below_it_stays():
    assert merge(read("a: 1\n"), read("extends: null\n"), null_removes=True) == {"a": 1, "extends": None}


def test_a_block_replaces_a_scalar_and_the_reverse():
    assert merge(read("a: 1\n"), read("a: {b: 2}\n")) == {"a": {"b": 2}}
    assert merge(read("a: {b: 2}\n"), read("a: 1\n")) == {"a": 1}


def test_paths_find_names_with_dots_longest_first():
    root = read("policies:\n  a: {b: {c: 1}}\n  a.b: {d: [x, y]}\n  a-b.c: 2\n")
    assert resolve(root, "policies.a.b") == ("policies", "a.b")
    assert resolve(root, "policies.a.b.d[1]") == ("policies", "a.b", "d", 1)
    assert resolve(root, "policies.a.b.d.1") == ("policies", "a.b", "d", 1)
    assert resolve(root, "policies.a.b.c") == ("policies", "a", "b", "c")
    assert resolve(root, "policies.a-b.c") == ("policies", "a-b.c")
    assert resolve(root, "policies.nope") is None
    assert resolve(root, "policies.a.b.d[2]") is None
    assert resolve(root, "") == ()


def test_a_path_is_written_as_messages_show_it():
    assert format_path(("policies", "a.b", "status", 1)) == "policies.a.b.status[1]"
    assert format_path(()) == ""


def test_what_is_missing_is_located_at_the_nearest_key_above():
    root = tree()
    assert str(locate(root, ("policies", "search", "retry", "jitter"))) == "base.yaml:7:3"
    assert str(locate(root, ("policies", "search"), key=True)) == "base.yaml:7:3"
    assert str(locate(root, ("policies", "card.payments", "order", 0))) == "base.yaml:6:13"
    assert str(locate(root, ("policies", "card.payments", "order", 7))) == "base.yaml:6:5"


def test_walking_off_the_tree_is_a_key_error():
    for path in (("nope",), ("version", "x"), ("policies", 0), ("policies", "card.payments", "order", -1)):
        with pytest.raises(KeyError):
            walk(tree(), path)
    with pytest.raises(KeyError):
        child([1], 0)


def test_leaves_come_in_the_order_of_the_file():
    assert list(leaves(read("a: {b: 1, c: [2, 3]}\nd: null\n"))) == [
        (("a", "b"), 1),
        (("a", "c", 0), 2),
        (("a", "c", 1), 3),
        (("d",), None),
    ]


def test_python_values_become_a_tree_at_one_place():
    place = Place("code", "mapping")
    root = from_plain({"a": {"b": (1, "x", None, True, 0.5)}}, place)
    assert root == {"a": {"b": [1, "x", None, True, 0.5]}}
    assert locate(root, ("a", "b", 1)) == place
    assert str(place) == "code mapping"


def loop():
    value = {}
    value["again"] = value
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [({1: 2}, "key 1 is not a string"), ({"a": object()}, "cannot hold a object"), (loop(), "more than 32 levels")],
)
def test_python_values_that_no_file_could_hold_are_refused(value, message):
    with pytest.raises(ValueError, match=message):
        from_plain(value, NOWHERE)


def test_python_values_may_be_as_deep_as_a_file():
    value = 1
    for _ in range(32):
        value = {"a": value}
    assert from_plain(value, NOWHERE) == value


def test_a_patch_is_a_nest_of_blocks():
    place = Place("environment", "AIORESILIENCE_POLICIES__PAYMENTS__TIMEOUT")
    assert nest(["a", "b"], 1, place) == {"a": {"b": 1}}
    assert str(locate(nest(["a", "b"], 1, place), ("a", "b"))).startswith("environment AIORESILIENCE_")
    with pytest.raises(ValueError, match="needs a path"):
        nest([], 1, place)


def test_lines_end_where_editors_end_them():
    root = read("a: 1\r\nb: 2\rc: 3\nd: é😀x\n", "f")
    assert [str(root.value_place(key)) for key in root] == ["f:1:4", "f:2:4", "f:3:4", "f:4:4"]
    assert root.source.line(2) == "b: 2"
    assert root.source.line(99) == ""
    assert root.value_place("d").text() == "é😀x"
    assert Place("code", "x").text() == ""
