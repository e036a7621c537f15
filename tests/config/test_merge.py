"""The merge order, as a table: what lies over what, what null does, what `use` does, where everything came from."""

from __future__ import annotations

import pytest

from aioresilience.config import ConfigError, Document, TextSource, load
from aioresilience.policy import BUILTIN

NOW = 1_800_000_000.0
LATER, EARLIER = "2126-01-01T00:00:00Z", "2020-01-01T00:00:00Z"


def read(*texts: str, **options) -> Document:
    sources = [TextSource(text, f"{number}.yaml") for number, text in enumerate(texts, 1)]
    return load(sources, patterns=BUILTIN, now=NOW, **options)


def pattern(document: Document, key: str, policy: str = "a"):
    return dict(document.policies[policy].patterns).get(key)


def seconds(document: Document, policy: str = "a") -> float | None:
    found = pattern(document, "timeout", policy)
    return None if found is None else found.timeout


def ids(*texts: str, **options) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(*texts, **options)
    return [one.id for one in caught.value.diagnostics]


LAYERS = [
    "library", "defaults", "template", "second template", "policy", "later file", "overlay", "variable", "override",
    "code", "everywhere",
]  # fmt: skip


def layered(top: str) -> Document:
    """Build a document in which every layer up to `top` sets the timeout to its own number."""
    present = LAYERS[: LAYERS.index(top) + 1]
    own = "timeout: 4" if "policy" in present else "retry: 3"
    lines = ["version: 1", "policies:", f"  a: {{extends: [t, u], {own}}}"]
    lines += ["templates:", f"  t: {{{'timeout: 2' if 'template' in present else ''}}}"]
    lines += [f"  u: {{{'timeout: 3' if 'second template' in present else ''}}}"]
    lines += ["defaults: {timeout: 1}"] if "defaults" in present else []
    lines += ["environments: {production: {policies: {a: {timeout: 6}}}}"] if "overlay" in present else []
    later = ["version: 1"] + (["policies: {a: {timeout: 5}}"] if "later file" in present else [])
    rest = f"expires: {LATER}, reason: x, by: y}}"
    listed = [f"  - {{policy: a, set: {{timeout: 8}}, {rest}"] if "override" in present else []
    listed += [f"  - {{policy: '*', set: {{timeout: 10}}, {rest}"] if "everywhere" in present else []
    lines += ["overrides:", *listed] if listed else []
    return read(
        "\n".join(lines),
        "\n".join(later),
        environment="production" if "overlay" in present else None,
        environ={"AIORESILIENCE_POLICIES__A__TIMEOUT": "7s"} if "variable" in present else {},
        patches={"a": {"timeout": 9}} if "code" in present else None,
    )


@pytest.mark.parametrize(("top", "expected"), list(zip(LAYERS, [None, *range(1, 11)], strict=True)))
def test_each_layer_lies_over_all_below(top, expected):
    assert seconds(layered(top)) == expected


def test_a_leaf_names_every_layer_it_came_through():
    chain = layered("everywhere").policies["a"].place(("timeout", "timeout")).chain()
    assert [place.origin for place in chain] == ["override", "code", "override", "environment", *["file"] * 6]
    assert "AIORESILIENCE_POLICIES__A__TIMEOUT" in [place.name for place in chain]


NULLS = [
    # defaults, template, policy: expected timeout
    ("timeout: 1", "timeout: null", "", None),
    ("timeout: 1", "", "timeout: null", None),
    ("timeout: 1", "timeout: null", "timeout: 3", 3),
    ("timeout: 1", "timeout: {timeout: 2, mode: off}", "timeout: {mode: null}", 2),
    ("", "", "timeout: null", None),
]


@pytest.mark.parametrize(("defaults", "template", "policy", "expected"), NULLS)
def test_null_removes_what_was_inherited(defaults, template, policy, expected):
    text = f"version: 1\ndefaults: {{{defaults}}}\ntemplates: {{t: {{{template}}}}}\n"
    text += f"policies: {{a: {{extends: t, {policy}}}}}"
    document = read(text)
    assert seconds(document) == expected
    assert expected is None or pattern(document, "timeout").mode is None


SOURCES = [
    ("timeout: 1", "timeout: null", None),
    ("timeout: {timeout: 1, mode: off}", "timeout: {timeout: 2}", 2),
    ("timeout: 1", "retry: 3", 1),
    ("timeout: null", "timeout: 2", 2),
]


@pytest.mark.parametrize(("low", "high", "expected"), SOURCES)
def test_sources_merge_deep_and_null_stays(low, high, expected):
    document = read(*(f"version: 1\npolicies: {{a: {{{text}}}}}" for text in (low, high)))
    assert seconds(document) == expected


def test_a_null_of_a_later_source_still_removes_what_the_policy_inherits():
    low = "version: 1\ndefaults: {timeout: 1}\npolicies: {a: {timeout: 2}, b: {}}"
    document = read(low, "version: 1\npolicies: {a: {timeout: null}}")
    assert (seconds(document), seconds(document, "b")) == (None, 1)


def test_a_later_source_may_remove_a_policy():
    document = read("version: 1\npolicies: {a: {timeout: 2}, b: {}}", "version: 1\npolicies: {a: null}")
    assert list(document.policies) == ["b"]


def test_lists_replace():
    text = "version: 1\npolicies: {a: {classify: {failure: {status: [%s]}}}}"
    assert read(text % "500, 502", text % "503").policies["a"].rules[0].status == {503}


def test_extends_null_leaves_even_the_defaults_out():
    document = read("version: 1\ndefaults: {timeout: 1}\npolicies: {a: {extends: null}, b: {extends: []}}")
    assert (seconds(document), seconds(document, "b")) == (None, 1)


def test_the_default_policy_is_the_defaults():
    default = read("version: 1\ndefaults: {timeout: 1, mode: observe}").default
    assert (default.name, default.mode, [key for key, _ in default.patterns]) == ("default", "observe", ["timeout"])


def test_an_ancestor_never_overwrites_its_descendants():
    text = (
        "version: 1\n"
        "templates: {base: {timeout: 1}, one: {extends: base, timeout: 2}, two: {extends: base, retry: 3}}\n"
        "policies: {a: {extends: [one, two]}}"
    )
    assert seconds(read(text)) == 2


def test_templates_are_not_policies_and_do_not_hand_on_the_defaults_order():
    document = read("version: 1\ndefaults: {timeout: 1}\ntemplates: {t: {timeout: 2}}\npolicies: {a: {extends: t}}")
    assert list(document.policies) == ["a"]
    assert seconds(document) == 2


def shared(policy: str, template: str = "") -> Document:
    return read(
        "version: 1\nshared: {pool: {bulkhead: {max_concurrent: 20}}}\n"
        f"templates: {{t: {{{template}}}}}\npolicies: {{a: {{extends: t, {policy}}}}}"
    )


@pytest.mark.parametrize(
    ("template", "policy", "size", "mode", "used"),
    [
        ("", "bulkhead: {use: pool}", 20, None, True),
        ("bulkhead: {max_concurrent: 3, mode: off}", "bulkhead: {use: pool}", 20, None, True),
        ("bulkhead: {use: pool}", "bulkhead: {mode: observe}", 20, "observe", True),
        ("bulkhead: {use: pool, mode: off}", "", 20, "off", True),
        ("bulkhead: {use: pool}", "bulkhead: {use: null, max_concurrent: 4}", 4, None, False),
    ],
)
def test_use_replaces_and_takes_only_mode_over_it(template, policy, size, mode, used):
    document = shared(policy, template)
    config = pattern(document, "bulkhead")
    assert (config.max_concurrent, config.mode) == (size, mode)
    assert dict(document.policies["a"].shared) == ({"bulkhead": "pool"} if used else {})


def test_use_in_an_overlay_replaces_the_block_below():
    text = "version: 1\nshared: {pool: {bulkhead: 20}}\npolicies: {a: {bulkhead: {max_concurrent: 3}}}\n"
    document = read(text + "environments: {e: {policies: {a: {bulkhead: {use: pool}}}}}", environment="e")
    assert pattern(document, "bulkhead").max_concurrent == 20


def test_order_says_who_brought_the_missing_pattern_in():
    text = "version: 1\ntemplates:\n  t: {retry: 3}\npolicies:\n  a: {extends: t, timeout: 2, order: [timeout]}"
    with pytest.raises(ConfigError, match=r"leaves out 'retry', which template t \(1.yaml:3:7\) brings in"):
        read(text)


def test_order_is_inherited_and_removed_by_null():
    text = "version: 1\ntemplates: {t: {timeout: 2, retry: 3, order: [timeout, retry]}}\n"
    policies = read(text + "policies: {a: {extends: t}, b: {extends: t, order: null}}").policies
    assert [key for key, _ in policies["a"].patterns] == ["timeout", "retry"]
    assert [key for key, _ in policies["b"].patterns] == ["retry", "timeout"]


def override(policy: str, change: str, expires: str = LATER) -> str:
    return f"overrides: [{{policy: {policy}, set: {{{change}}}, expires: {expires}, reason: INC, by: ops}}]\n"


def test_an_expired_override_changes_nothing_and_is_listed():
    document = read("version: 1\npolicies: {a: {timeout: 2}}\n" + override("a", "timeout: 3", EARLIER))
    assert seconds(document) == 2
    assert [(one.policy, one.active, one.reason) for one in document.overrides] == [("a", False, "INC")]


def test_an_override_for_all_patches_only_patterns_that_a_policy_has():
    text = "version: 1\nshared: {pool: {bulkhead: 20}}\n"
    text += "policies: {a: {timeout: 2}, b: {retry: 3}, c: {bulkhead: {use: pool}}}\n"
    document = read(text + override("'*'", "mode: off, timeout: 9, bulkhead: {max_concurrent: 5, mode: observe}"))
    assert (seconds(document), seconds(document, "b")) == (9, None)
    assert {spec.mode for spec in document.policies.values()} == {"off"}
    assert pattern(document, "bulkhead", "c").mode == "observe"
    assert document.shared["pool", "bulkhead"].config.max_concurrent == 5


def test_an_override_ends_the_effect_at_its_second():
    text = "version: 1\npolicies: {a: {timeout: 2}}\n" + override("a", "timeout: 3", "2027-01-15T08:00:00Z")
    assert seconds(load(TextSource(text), patterns=BUILTIN, now=NOW - 1)) == 3
    assert seconds(load(TextSource(text), patterns=BUILTIN, now=NOW)) == 2


def test_an_override_with_a_zone_counts_in_that_zone():
    text = "version: 1\npolicies: {a: {}}\n" + override("a", "timeout: 3", "2027-01-15T10:00:00+02:00")
    (one,) = read(text).overrides
    assert one.expires == NOW
