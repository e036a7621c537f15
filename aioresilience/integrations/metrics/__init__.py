"""What can be measured: one catalogue, which the adapters for Prometheus and OpenTelemetry read."""

from aioresilience.integrations.metrics.catalogue import CATALOGUE, Metric
from aioresilience.integrations.metrics.view import Reading, View

__all__ = ["CATALOGUE", "Metric", "Reading", "View"]
