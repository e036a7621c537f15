"""Every row of the tables in docs/reloading.md has a test, and every one of these tests exists."""

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
DOCUMENT = (HERE.parents[1] / "docs" / "reloading.md").read_text(encoding="utf-8")

CASES = {
    "a valid change": [
        "test_a_valid_change_is_applied_with_its_differences", "test_a_valid_change_is_one_event_and_one_log_line",
    ],
    "any error": [
        "test_any_error_applies_nothing_and_reports_all_errors", "test_an_error_is_told_once_and_readably",
        "test_the_watcher_outlives_a_broken_file",
    ],
    "lint findings": ["test_lint_findings_are_applied_and_told"],
    "good, broken, the same good again": ["test_good_then_bad_then_the_same_good_rebuilds_nothing_and_says_recovered"],
    "touched, reformatted, comments or metadata only": [
        "test_reformatting_comments_and_metadata_change_nothing", "test_chmod_alone_changes_nothing",
    ],
    "a policy is unchanged": ["test_unchanged_policies_keep_their_objects_and_state"],
    "a policy is changed": [
        "test_a_changed_policy_keeps_its_patterns_and_their_state",
        "test_only_removing_or_adding_a_pattern_makes_a_new_one",
    ],
    "a policy is added": ["test_an_added_policy_is_there_at_once"],
    "a policy is removed": [
        "test_a_removed_policy_goes_on_where_it_is_used", "test_a_removed_policy_that_nobody_used_is_unknown",
        "test_removal_can_be_refused", "test_a_removed_policy_in_use_is_told_as_retired",
    ],
    "a call under way, a long retry loop": [
        "test_a_call_under_way_finishes_on_its_snapshot_and_returns_its_permit",
        "test_a_long_retry_loop_finishes_under_the_rules_it_started_with",
    ],
    "handles and decorators": ["test_handles_and_decorators_stay_valid_and_current"],
    "missing or broken at the start": [
        "test_missing_or_broken_at_start_fails_with_the_absolute_path_and_all_errors",
        "test_a_fallback_file_at_start_is_said_loudly_and_gives_way_to_the_first_good_file",
        "test_a_broken_fallback_fails_the_start",
    ],
    "names in code": ["test_names_in_code_are_checked_at_the_start"],
    "deleted, emptied, cut off while running": [
        "test_an_emptied_or_deleted_file_changes_nothing", "test_a_file_that_lost_its_end_is_taken_for_truncated",
        "test_a_file_that_drops_most_policies_is_taken_for_truncated_unless_it_says_that_it_is_meant",
    ],
    "several files": ["test_several_files_are_read_as_one_set", "test_files_that_never_hold_still_are_refused"],
    "a storm of writes": [
        "test_a_storm_of_writes_is_coalesced", "test_a_storm_that_does_not_end_is_applied_all_the_same",
    ],
    "file, signal and API at once": [
        "test_triggers_at_once_are_served_one_after_the_other_each_with_its_result", "test_sighup_reloads",
        "test_the_async_forms_do_not_block_the_loop",
    ],
    "a read that hangs": [
        "test_a_read_that_hangs_in_the_watcher_holds_back_nothing_else",
        "test_a_read_that_hangs_in_a_reload_that_was_asked_for_holds_back_only_others_who_read_the_same",
        "test_a_reload_that_does_not_end_is_named_to_whoever_waits_for_it",
    ],
    "`reload(expected_revision=…)`": [
        "test_an_expected_revision_that_is_gone_is_a_conflict", "test_of_two_who_expect_the_same_revision_one_is_told",
    ],
    "`apply(…)`": [
        "test_an_applied_document_is_pinned_until_the_files_differ",
        "test_a_pin_is_lifted_by_what_the_guards_accept_and_by_nothing_else",
    ],
    "`plan(…)`": [
        "test_plan_shows_what_would_change_and_changes_nothing", "test_plan_asks_the_guards_and_changes_nothing",
        "test_plan_shows_the_live_state_that_a_change_would_meet",
    ],
    "`rollback(n)`": [
        "test_a_rollback_is_pinned_until_the_files_differ",
        "test_a_rollback_does_not_bring_back_an_override_that_is_over",
    ],
    "an override expires": [
        "test_an_override_is_announced_a_quarter_of_an_hour_before_and_ends_by_itself",
        "test_the_end_is_spread_over_up_to_a_minute",
    ],
    "a setting that needs a restart": ["test_a_setting_that_needs_a_restart_is_named"],
    "a listener raises": [
        "test_a_listener_that_raises_does_not_stop_a_reload", "test_a_listener_that_raises_is_isolated_and_counted",
    ],
    "retry or fallback comes into a policy used by `admit`": [
        "test_retry_brought_into_a_policy_used_by_admit_is_skipped_there_with_an_event"
    ],
}  # fmt: skip

FIELDS = {
    "thresholds, minimums, `classify`, predicates": [
        "test_thresholds_recovery_timeout_half_open_probes_and_window",
        "test_stored_outcomes_keep_their_class_when_classify_changes",
    ],
    "`recovery_timeout`": ["test_recovery_timeout_of_an_open_breaker_counts_from_its_own_opening"],
    "half-open probes": ["test_half_open_probes_left_are_new_minus_issued"],
    "`window`": [
        "test_thresholds_recovery_timeout_half_open_probes_and_window",
        "test_window_from_count_to_time_starts_anew_and_says_so",
    ],
    "bulkhead size": ["test_bulkhead_size"],
    "`rate`": ["test_rate", "test_a_rate_that_grows_serves_waiters_and_one_that_shrinks_forgets_nobody"],
    "`rate` on a backend": ["test_a_reload_keeps_the_spent_share_and_refills_nothing"],
    "an entry of `backends`": [
        "test_another_address_holds_from_the_next_check_on_and_leases_go_back",
        "test_another_place_is_no_free_refill_and_another_password_is_no_other_place",
    ],
    "adaptive limits": ["test_adaptive_limits", "test_adaptive_limits_that_shrink_below_what_is_in_use_are_a_debt"],
    "`retry`, `timeout`, `deadline`, `fallback`, `order`, `mode`": [
        "test_retry_holds_from_the_next_call_on_and_its_budget_goes_on",
        "test_timeout_and_deadline_hold_from_the_next_call_on", "test_fallback_holds_from_the_next_call_on",
        "test_order_holds_from_the_next_call_on", "test_mode_holds_from_the_next_call_on_and_switching_back_is_exact",
    ],
    "`algorithm`, `scope`, `backend`, `use`": [
        "test_algorithm_and_rate_of_keys", "test_scope", "test_algorithm_changes_say_so",
        "test_use_changes_keep_the_spent_share_and_say_so",
    ],
    "`scope: key`, brought in": [
        "test_scope_key_brought_in_by_a_reload_lets_keyless_calls_share_a_bucket_with_an_event",
        "test_keys_that_a_reload_brings_in_are_asked_of_nobody_whenever_the_policy_is_first_used",
        "test_keys_that_were_there_from_the_start_are_asked_for_after_a_reload_too",
    ],
}  # fmt: skip


def rows(header):
    """Return the first cell of every row below a table's header."""
    table = DOCUMENT.split(header)[1].split("\n\n")[0]
    return [re.match(r"\| (.*?) \| ", line)[1] for line in table.splitlines()[2:]]


def names_of_tests():
    for path in (*HERE.glob("test_*.py"), *HERE.with_name("redis").glob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node.name


@pytest.mark.parametrize(
    ("header", "covered"),
    [("| case | what happens |", CASES), ("| field | on change |", FIELDS)],
    ids=["cases", "fields"],
)
def test_every_row_has_its_tests(header, covered):
    assert rows(header) == list(covered)
    assert {name for names in covered.values() for name in names} - set(names_of_tests()) == set()
