"""When a server counts as away, on a clock of the test's own."""

from __future__ import annotations

import pytest

from aioresilience.backends.health import FLAPPING, LONGEST_PAUSE, Health


def test_a_slow_median_counts_after_a_second_of_it_and_not_before():
    health = Health(slow=0.02)
    verdicts = [health.answered(tick / 10, 0.03) for tick in range(30)]
    assert verdicts.index(True) == 12  # from the third answer on there is a median


def test_slow_answers_among_fast_ones_do_not_count():
    health = Health(slow=0.02)
    assert not any(health.answered(tick / 10, 5.0 if tick % 3 == 0 else 0.001) for tick in range(100))


def test_one_slow_second_is_over_when_answers_are_fast_again():
    health = Health(slow=0.02)
    for tick in range(10):
        health.answered(tick / 10, 0.03)
    assert not any(health.answered(1.0 + tick / 100, 0.001) for tick in range(100))
    assert health.median() == pytest.approx(0.001)


def test_probes_come_ever_more_seldom_and_quickly_again_after_a_good_time():
    health = Health(slow=0.02)
    health.failed(0.0, "timeout")
    pauses = [health.pause() for _ in range(8)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE
    health.recovered(5.0)
    health.failed(5.0 + FLAPPING / 2, "timeout")
    assert health.pause() == LONGEST_PAUSE, "it flaps"
    health.recovered(20.0)
    health.failed(20.0 + 2 * FLAPPING, "timeout")
    assert health.pause() == pauses[0]
