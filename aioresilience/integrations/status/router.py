"""The routes: one address, JSON for machines and a page for people."""

from __future__ import annotations

import secrets
import weakref
from collections.abc import Callable, Sequence
from typing import Final

from aioresilience.collector import collector_paused
from aioresilience.exceptions import UnknownPolicyError
from aioresilience.integrations.extras import extra
from aioresilience.integrations.status.rates import Rates
from aioresilience.integrations.status.rejections import Recorder
from aioresilience.integrations.status.rendering import Renderer
from aioresilience.integrations.status.sending import in_parts, json_texts, let_go, response
from aioresilience.integrations.status.view import Page, page
from aioresilience.registry import Registry, get_registry
from aioresilience.registry.loading import pace

with extra("fastapi", "FastAPI"):
    from fastapi import APIRouter, FastAPI, HTTPException, Request
    from fastapi.params import Depends
    from fastapi.responses import Response

_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Vary": "Accept"}


def status_router(
    registry: Registry | None = None,
    *,
    dependencies: Sequence[Depends] = (),
    public: bool = False,
    path: str = "/resilience",
    title: str | None = None,
    refresh: float = 2.0,
) -> APIRouter:
    """Return a router that shows what a registry does: read-only, and guarded unless it is said to be public.

    `GET path` answers with JSON, or with a page that refreshes itself every `refresh` seconds where the client prefers
    HTML; `GET path?policy=NAME`, of one policy. `registry` is the default one unless given; `dependencies` decide who
    may look, as FastAPI's do.

    Raises:
        ValueError: neither `dependencies` nor `public=True`; or `refresh` below half a second.
    """
    if not dependencies and not public:
        raise ValueError(
            "status_router shows the names and limits of every policy: pass dependencies=[Depends(...)] that decide "
            "who may look, or public=True where everybody may"
        )
    if not refresh >= 0.5:
        raise ValueError(f"refresh must be at least 0.5 seconds, got {refresh!r}")
    desk = _Desk(registry, title, refresh)
    router = APIRouter(dependencies=list(dependencies))
    router.add_api_route(path, desk.answer, methods=["GET"], include_in_schema=False, response_model=None)
    weakref.finalize(router, desk.recorder.listen())
    return router


def status_app(
    registry: Registry | None = None,
    *,
    dependencies: Sequence[Depends] = (),
    public: bool = False,
    path: str = "/resilience",
    title: str | None = None,
    refresh: float = 2.0,
) -> FastAPI:
    """Return an application of the status router alone, for a port of its own; see `status_router`."""
    app = FastAPI(title=title or "aioresilience", openapi_url=None)
    app.include_router(
        status_router(registry, dependencies=dependencies, public=public, path=path, title=title, refresh=refresh)
    )
    return app


class _Desk:
    """Answers for one router."""

    def __init__(self, registry: Registry | None, title: str | None, refresh: float) -> None:
        self._registry = registry
        self._title = title
        self._refresh = refresh
        self._rates: Rates | None = None
        self._renderer: Renderer | None = None
        self.recorder = Recorder()

    def answer(self, request: Request) -> Response:
        """Answer one request; FastAPI runs it in a thread, so that no event loop waits for a large registry."""
        registry, breathe, names = self._registry or get_registry(), pace(), request.query_params.getlist("policy")
        rates = self._rates = self._rates or Rates(registry.clock)
        with collector_paused():  # which would go through all that is made here again and again
            shown = page(_report(registry, names), rates, self.recorder, breathe, whole=not names)
            if prefers_html(request.headers.get("accept", "")):
                answer = self._html(shown, breathe)
            else:
                answer = response(in_parts(json_texts(shown), breathe), "application/json", _HEADERS)
            let_go(shown, breathe)
        return answer

    def _html(self, shown: Page, breathe: Callable[[], None]) -> Response:
        title = self._title or str(shown.report.get("service") or "aioresilience")
        renderer = self._renderer = self._renderer or Renderer(title, self._refresh)
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; "
            "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
        )
        headers = {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer", **_HEADERS}
        return response(in_parts(renderer.html(shown, nonce), breathe), "text/html", headers)


def _report(registry: Registry, names: Sequence[str]) -> dict[str, object]:
    try:
        return registry.status(*names)
    except UnknownPolicyError as error:
        raise HTTPException(404, str(error)) from error


def prefers_html(accept: str) -> bool:
    """Tell whether a client likes HTML better than JSON (RFC 9110, section 12.5.1)."""
    return _weight(accept, "text/html") > _weight(accept, "application/json")


def _weight(accept: str, media: str) -> float:
    main, _, _ = media.partition("/")
    exact: dict[str, float] = {}
    for part in accept.split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        exact[name.lower()] = next((_quality(p[2:]) for p in parameters if p.lower().startswith("q=")), 1.0)
    return next((exact[name] for name in (media, f"{main}/*", "*/*") if name in exact), 0.0)


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
