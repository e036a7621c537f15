"""Every metric: its name, unit and labels, and how it is read. Labels are closed: never a key, a host or a message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from aioresilience.integrations.metrics import readings as read

PREFIX: Final = "aioresilience"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; `name` has dots as OpenTelemetry writes it, `unit` is `s` or what is counted."""

    name: str
    kind: Literal["counter", "gauge"]
    unit: str
    labels: tuple[str, ...]
    text: str
    read: read.Read

    @property
    def prometheus_name(self) -> str:
        """The name as Prometheus shows it: with underscores, the unit and `_total`."""
        seconds = "_seconds" if self.unit == "s" else ""
        return f"{PREFIX}_{self.name.replace('.', '_')}{seconds}{'_total' if self.kind == 'counter' else ''}"

    @property
    def otel_name(self) -> str:
        """The name as OpenTelemetry shows it."""
        return f"{PREFIX}.{self.name}"

    @property
    def otel_unit(self) -> str:
        """The unit in UCUM: counted things are annotations in braces."""
        return self.unit if self.unit in ("s", "1") else f"{{{self.unit}}}"


POLICY, BOTH = ("policy",), ("policy", "pattern")

CATALOGUE: Final = (
    Metric("calls", "counter", "call", (*BOTH, "outcome"),
           "Calls that ended, by outcome: success, failure or neutral.", read.calls),
    Metric("rejections", "counter", "call", (*BOTH, "reason"),
           "Calls that were refused before they started.", read.rejections),
    Metric("observed", "counter", "call", BOTH,
           "Calls that mode observe let through against the rule.", read.counted("observed")),
    Metric("delayed", "counter", "call", BOTH,
           "Calls that had to wait before they started.", read.counted("delayed")),
    Metric("timeouts", "counter", "call", BOTH,
           "Calls that a timeout or deadline cut.", read.timed_out),
    Metric("retry.attempts", "counter", "attempt", POLICY,
           "Further attempts.", read.own("retry", "retries")),
    Metric("retry.stopped", "counter", "call", (*POLICY, "reason"),
           "Calls given up although they were worth a retry.", read.stopped),
    Metric("retry.delay", "counter", "s", POLICY,
           "Time that calls waited for further attempts.", read.own("retry", "total_delay")),
    Metric("retry.budget_left", "gauge", "attempt", POLICY,
           "Retries that the budget allows now; not of a partitioned policy.", read.budget),
    Metric("fallbacks", "counter", "call", POLICY,
           "Calls that a fallback answered.", read.own("fallback", "answered")),
    Metric("circuit.states", "gauge", "circuit", (*POLICY, "state"),
           "Circuits by state: closed, open, half_open; one a policy or partition.", read.circuits),
    Metric("circuit.forced", "gauge", "1", POLICY,
           "1 while somebody holds the circuit open or closed by hand.", read.forced),
    Metric("in_use", "gauge", "place", BOTH,
           "Places taken in bulkhead, adaptive limit, load shedder and backpressure.",
           read.summed("pending", "active")),
    Metric("places", "gauge", "place", BOTH,
           "Places there are, in all partitions together.", read.summed("limit", "max_requests", "max_pending")),
    Metric("waiting", "gauge", "call", BOTH,
           "Calls that wait to start.", read.summed("waiting")),
    Metric("load_level", "gauge", "1", POLICY,
           "Load as the load shedder sees it: 0 normal, 1 elevated, 2 high, 3 critical.", read.load_level),
    Metric("rate_limit.keys", "gauge", "key", POLICY,
           "Keys that have spent something of their limit.", read.own("rate_limiter", "live_keys")),
    Metric("rate_limit.overflowed", "counter", "call", POLICY,
           "Calls that shared a limit because the table of keys was full.", read.own("rate_limiter", "overflowed")),
    Metric("rate_limit.degraded", "counter", "call", POLICY,
           "Decisions made without the backend, while it was away.", read.own("rate_limiter", "degraded")),
    Metric("rate_limit.asked", "counter", "call", POLICY,
           "Calls that asked the backend; the checks of a tick share a round trip.", read.own("rate_limiter", "asked")),
    Metric("rate_limit.leased", "counter", "permit", POLICY,
           "Permits taken ahead from the backend.", read.own("rate_limiter", "lease_issued")),
    Metric("rate_limit.lease_returned", "counter", "permit", POLICY,
           "Permits taken ahead that went back unspent.", read.own("rate_limiter", "lease_returned")),
    Metric("rate_limit.backend_away", "gauge", "1", POLICY,
           "1 while the backend of the limit counts as away.", read.own("rate_limiter", "backend_away")),
    Metric("partition.count", "gauge", "partition", POLICY,
           "Hosts or keys that have state of their own.", read.partitions),
    Metric("partition.events", "counter", "1", (*POLICY, "reason"),
           "Partitions dropped, and calls that had none: overflowed (all were in use) or keyless.", read.unpartitioned),
    Metric("config.generation", "gauge", "1", (),
           "Documents applied so far.", read.config("generation")),
    Metric("config.reloads", "counter", "1", ("result", "trigger"),
           "Reloads: applied, unchanged or rejected, by what set them off.", read.reloads),
    Metric("config.last_reload_successful", "gauge", "1", (),
           "0 while the sources are broken; the last good document stays in effect.",
           read.config("last_reload_successful")),
    Metric("config.last_success_timestamp", "gauge", "s", (),
           "When a document was last applied, since the epoch.", read.config("last_success_at")),
    Metric("config.age", "gauge", "s", (),
           "Time since a document was last applied.", read.config("config_age_seconds")),
    Metric("config.on_fallback", "gauge", "1", (),
           "1 while AIORESILIENCE_FALLBACK_CONFIG is in effect.", read.config("on_fallback")),
    Metric("config.pinned", "gauge", "1", (),
           "1 while a document from apply or rollback stands before the files.", read.config("pinned")),
    Metric("config.unreadable_sources", "gauge", "file", (),
           "Files of the configuration that cannot be read now.", read.unreadable),
    Metric("config.watcher_wanted", "gauge", "1", (),
           "1 where changes of the files are to be applied by themselves.", read.watcher("wanted")),
    Metric("config.watcher_alive", "gauge", "1", (),
           "1 while the watcher runs.", read.watcher("alive")),
    Metric("config.watcher_tick_age", "gauge", "s", (),
           "Time since the watcher last looked.", read.watcher("last_tick_age_seconds")),
    Metric("config.overrides_active", "gauge", "1", (),
           "Incident overrides in effect.", read.config_count("overrides_active")),
    Metric("config.findings", "gauge", "1", (),
           "Lint findings of the document.", read.config_count("findings")),
    Metric("config.pending_exceptions", "gauge", "1", (),
           "Exception names that no loaded module has yet.", read.config_count("pending_exceptions")),
    Metric("config.policies", "gauge", "1", (),
           "Policies of the document.", read.policy_count),
    Metric("config.policies_retired", "gauge", "1", (),
           "Policies in use that the document no longer has.", read.config_count("policies_retired")),
)  # fmt: skip
