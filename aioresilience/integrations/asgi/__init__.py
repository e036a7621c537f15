"""Middleware for any ASGI app; needs no framework."""
