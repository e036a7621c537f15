"""Middleware for any ASGI app; needs no framework."""

from aioresilience.integrations.asgi.arrivals import RequestStart
from aioresilience.integrations.asgi.callers import ClientAddress, PriorityHeader
from aioresilience.integrations.asgi.policy import PolicyMiddleware

__all__ = ["ClientAddress", "PolicyMiddleware", "PriorityHeader", "RequestStart"]
