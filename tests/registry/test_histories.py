"""Whatever came before: a registry that has been through any documents means what a new one of the last document means.

Good, broken and refused documents in any order, with handles taken at any time.
"""

from hypothesis import given, settings, strategies as st

from aioresilience import Registry
from aioresilience.testing import VirtualClock

PATTERNS = {
    "bulkhead": st.sampled_from([1, 2, {"max_concurrent": 3, "mode": "observe"}, {"use": "pool"}]),
    "timeout": st.sampled_from(["1s", "2s"]),
    "rate_limiter": st.sampled_from(["1/second", {"rate": "9/minute", "algorithm": "sliding_window"}, {"use": "pool"}]),
    "circuit_breaker": st.sampled_from([{"failure_threshold": 3}, {"window": 20}, {"window": "5s"}]),
    "retry": st.sampled_from([2, {"max_attempts": 3, "budget": None}]),
    "fallback": st.sampled_from([{"value": 1}, {"value": [1, 2]}]),
}
POLICY = st.fixed_dictionaries({}, optional=PATTERNS).flatmap(
    lambda patterns: st.fixed_dictionaries(
        {key: st.just(value) for key, value in patterns.items()},
        optional={"mode": st.sampled_from(["enforce", "observe"]), "idempotent": st.booleans()},
    )
)
NAMES = ("a", "b", "c", "d")


@st.composite
def documents(draw):
    policies = draw(st.dictionaries(st.sampled_from(NAMES), POLICY, max_size=4))
    whole = {
        "version": 1,
        "settings": {"shrink": "allow", "on_removed": draw(st.sampled_from(["keep", "keep", "reject"]))},
        "shared": {"pool": {"bulkhead": draw(st.sampled_from([4, 5])), "rate_limiter": "7/second"}},
        "policies": policies,
    }
    if draw(st.integers(0, 4)) == 0:
        whole["policies"] = {**policies, "broken": {"bulkhead": -1}}
    return whole


def meaning(policy):
    """What a policy does: its patterns in order, each with its config, and how it acts."""
    context = policy.snapshot.context
    return [(p.key, p.config) for p in policy.patterns], context.mode, context.idempotent, dict(context.modes)


STEPS = st.lists(st.one_of(documents(), documents(), st.sampled_from(NAMES), st.just("rollback")), max_size=12)


@settings(max_examples=80, deadline=None)
@given(documents(), STEPS)
def test_any_history_ends_where_a_new_start_would(first, steps):
    first["policies"].pop("broken", None)
    registry, handles, in_effect = Registry.from_mapping(first, clock=VirtualClock(), environ={}), {}, [first]
    for step in steps:
        before = {name: (policy.patterns, meaning(policy)) for name, policy in handles.items()}
        revision = registry.revision
        if step in NAMES:
            if step in registry:
                handles.setdefault(step, registry.get(step))
                assert registry.get(step) is handles[step]
            continue
        if step == "rollback":
            if len(in_effect) < 2:
                continue
            result, document = registry.rollback(1), in_effect[-2]
        else:
            result, document = registry.apply(step), step
        if result.outcome == "applied":
            in_effect.append(document)
        if result.outcome == "rejected":
            gone = set(in_effect[-1]["policies"]) - set(document["policies"])
            assert "broken" in document["policies"] or (gone and document["settings"]["on_removed"] == "reject")
            assert registry.revision == revision
            assert {name: (policy.patterns, meaning(policy)) for name, policy in handles.items()} == before
            continue
        agrees_with_a_new_start(registry, document, handles, before)


def agrees_with_a_new_start(registry, document, handles, before):
    fresh = Registry.from_mapping(document, clock=VirtualClock(), environ={})
    assert registry.revision == fresh.revision
    assert sorted(registry) == sorted(document["policies"])
    for name, policy in handles.items():
        patterns, meant = before[name]
        if name not in document["policies"]:
            assert (policy.patterns, meaning(policy)) == (patterns, meant), "it goes on as it was"
            continue
        assert meaning(policy) == meaning(fresh.get(name))
        kept_what_stays(policy, {pattern.key: pattern for pattern in patterns}, document["policies"][name])


def kept_what_stays(policy, before, block):
    """The same instance for each pattern that stays, unless it came to or left a shared one."""
    for pattern in policy.patterns:
        value = block[pattern.key]
        shared = isinstance(value, dict) and "use" in value
        old = before.get(pattern.key)
        if old is not None and shared == str(old.policy).startswith("shared:"):
            assert pattern is old
