"""What a registry does, for whoever is on call: JSON and a page, mounted where you say and nowhere else."""

from aioresilience.integrations.status.router import status_app, status_router

__all__ = ["status_app", "status_router"]
