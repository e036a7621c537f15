"""Random documents: whatever they hold, reading them ends in a document or in a ConfigError."""

from __future__ import annotations

import contextlib
import random

import pytest

from aioresilience.config import ConfigError, MappingSource, load
from aioresilience.policy import BUILTIN


def _pieces(random_: random.Random, depth: int) -> object:
    words = ["use", "extends", "mode", "order", "a", "classify", "value", "set", "policy", "backend", "rate", "budget"]
    scalars = [None, True, 0, -1, 1.5, float("nan"), "2s", "", "${X}", "${X", "a", "t", "50%", "5/second", "*", "x" * 9]
    if depth == 0 or random_.random() < 0.3:
        return random_.choice(scalars)
    if random_.random() < 0.3:
        return [_pieces(random_, depth - 1) for _ in range(random_.randrange(4))]
    keys = [*words, *(pattern.key for pattern in BUILTIN)]
    return {random_.choice(keys): _pieces(random_, depth - 1) for _ in range(random_.randrange(5))}


@pytest.mark.parametrize("seed", range(400))
def test_random_documents_raise_nothing_but_config_error(seed):
    random_ = random.Random(seed)
    sections = ["policies", "templates", "shared", "defaults", "settings", "backends", "environments", "overrides"]
    document = {"version": 1, **{key: _pieces(random_, 4) for key in random_.sample(sections, 4)}}
    for section in ("policies", "templates", "shared", "environments"):
        if random_.random() < 0.7:
            document[section] = {"a": _pieces(random_, 3), "t": _pieces(random_, 3)}
    document["overrides"] = random_.choice([None, [{"policy": "*", "set": _pieces(random_, 3)}], _pieces(random_, 3)])
    with contextlib.suppress(ConfigError):
        environment = random_.choice([None, "a"])
        source = MappingSource(document)
        load(source, patterns=BUILTIN, environ={"X": "5"}, environment=environment, in_service=seed % 2 == 0)
