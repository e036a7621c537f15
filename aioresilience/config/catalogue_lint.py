"""The diagnostics of lint, AR4xx: what works and is probably not what was meant; never refuses a file."""

from __future__ import annotations

from collections.abc import Mapping

from aioresilience.config.entry import Entry

LINT: Mapping[str, Entry] = {
    "AR401": Entry(
        "The timeout is as long as the deadline.",
        "The deadline ends the call first, so the timeout never fires and no retry ever comes.",
        "Lower `timeout`, or raise `deadline`.",
        "{deadline: 2s, timeout: 3s}",
    ),
    "AR402": Entry(
        "The attempts do not fit into the deadline.",
        "Attempts times timeout, plus the delays between them, exceed the deadline, so the last attempts never run.",
        "Lower `max_attempts` or `timeout`, or raise `deadline`.",
        "{deadline: 5s, timeout: 3s, retry: 4}",
        "warning",
    ),
    "AR403": Entry(
        "The window can never reach its minimum.",
        "Fewer calls fit into the breaker's window than `minimum_calls` asks for, so its rates never count.",
        "Lower `minimum_calls`, or widen `window`.",
        "{rate_limiter: 1/minute, circuit_breaker: {window: 10s, minimum_calls: 20}}",
    ),
    "AR404": Entry(
        "The override expired long ago.",
        "It ended more than a week ago and changes nothing any more.",
        "Delete it.",
    ),
    "AR405": Entry(
        "The breaker's window is shorter than two timeouts.",
        "The breaker forgets calls about as fast as they time out, so slow failures hardly add up.",
        "Widen `window` to two timeouts or more.",
        "{timeout: 30s, circuit_breaker: {window: 30s}}",
        "warning",
    ),
    "AR406": Entry(
        "The retry has no jitter.",
        "Callers that failed together try again together, and hit a recovering server as one wave.",
        "Write `jitter: full`.",
        "{deadline: 5s, retry: {max_attempts: 2, jitter: 0}}",
        "warning",
    ),
    "AR407": Entry(
        "The retry has no bound in time.",
        "Neither a timeout nor a deadline bounds an attempt, so one that hangs is never retried.",
        "Add a `deadline`, and a `timeout` for the attempts.",
        "{retry: 3}",
        "warning",
    ),
    "AR408": Entry(
        "The policy retries and does not say whether it may.",
        "Without `idempotent` a reader cannot tell whether a call may safely run twice.",
        "Add `idempotent: true`, or `idempotent: false`: then only what never started is retried.",
        "{deadline: 5s, retry: 3}",
        "warning",
    ),
    "AR409": Entry(
        "One call can open the circuit.",
        "The retry is outside the breaker, so each attempt counts, and one call makes as many as the threshold.",
        "Raise `failure_threshold` above `max_attempts`, or use a `failure_rate`.",
        "{retry: 3, circuit_breaker: {failure_threshold: 3}}",
        "warning",
    ),
    "AR410": Entry(
        "The wait for a place is longer than the timeout.",
        "A call may wait in the bulkhead longer than it may then run.",
        "Lower the bulkhead's `timeout`.",
        "{timeout: 1s, bulkhead: {max_concurrent: 5, max_waiting: 5, timeout: 2s}}",
        "warning",
    ),
    "AR411": Entry(
        "A load shedder stands beside a retry.",
        "A load shedder protects this process from calls that come in, and a retry is for calls that go out.",
        "Give each its own policy.",
        "{retry: 3, load_shedder: {}}",
        "warning",
    ),
    "AR412": Entry(
        "A duration has no unit.",
        "A bare number means seconds, which a reader has to know.",
        "Write the unit.",
        "{timeout: 2}",
        "warning",
    ),
    "AR413": Entry(
        "Nothing uses the template.",
        "No policy and no other template extends it, in a file that has policies.",
        "Delete it, or extend it.",
        "",
        "warning",
    ),
    "AR414": Entry(
        "The policy repeats its template.",
        "All that the policy says is what its template says already.",
        "Leave only `extends`.",
        "",
        "warning",
    ),
    "AR415": Entry(
        "Retries multiply along dependencies.",
        "Policies that lead to each other, as `depends_on` says, all retry, so one call becomes many.",
        "Retry at one place of the chain only.",
        "",
        "warning",
    ),
    "AR416": Entry(
        "The code names a policy that the file does not have.",
        "The name stands in `@resilient(…)` or `registry.get(…)`, and no policy has it: the service fails there.",
        "Correct the name, or add the policy.",
        "",
        "warning",
    ),
    "AR417": Entry(
        "No code uses the policy.",
        "The code that was looked at names it nowhere.",
        "Delete it, or look at the rest of the code too.",
        "",
        "warning",
    ),
    "AR418": Entry(
        "The comment silences nothing.",
        "It names no id, or one that nothing on its line gives.",
        "Delete it, or move it to the line that the finding shows.",
        "",
        "warning",
    ),
    "AR419": Entry(
        "An environment adds a policy whose name is nearly that of another.",
        "Only this environment has the policy, so a slip in its name leaves the policy that was meant as it was.",
        "Correct the name, or silence the line if it is a policy of its own.",
        "",
        "warning",
    ),
    "AR420": Entry(
        "A field can never do what it is for.",
        "Another value is in its way: a timeout cuts every call before it is slow, or a budget allows no whole retry.",
        "Write what the finding says.",
        "{timeout: 1s, circuit_breaker: {slow_call_rate: 50%, slow_call_duration: 2s}}",
        "warning",
    ),
    "AR421": Entry(
        "The first delay is longer than the longest.",
        "`max_delay` bounds every delay, the first too, so that `initial_delay` and `backoff_multiplier` say nothing.",
        "Lower `initial_delay`, or raise `max_delay`.",
        "{deadline: 60s, idempotent: true, retry: {initial_delay: 10s, max_delay: 1s}}",
        "warning",
    ),
    "AR422": Entry(
        "Code that may name policies cannot be parsed.",
        "It is no UTF-8, or no Python as the version knows it that runs the check.",
        "Correct it, or run the check under the Python of the service.",
        "",
        "warning",
    ),
    "AR430": Entry(
        "No request reaches the route.",
        "Every request that fits it fits an earlier route already, and the first that fits counts.",
        "Move it up, or delete it.",
        "",
        "warning",
    ),
}
