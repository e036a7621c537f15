"""What the HTTP clients have in common: which policy a request is made under, and what becomes of its responses."""

from aioresilience.integrations.outbound.body import Body
from aioresilience.integrations.outbound.choosing import Chooser, Target, Wish
from aioresilience.integrations.outbound.sending import Sending, is_idempotent, milliseconds_left, wants_retry

__all__ = ["Body", "Chooser", "Sending", "Target", "Wish", "is_idempotent", "milliseconds_left", "wants_retry"]
