"""The one module that knows the client library: a connection to whatever kind of server, and what went wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from aioresilience.backends.config import BackendConfig, Sentinels, Tls, secret
from aioresilience.backends.scripts import Script
from aioresilience.extras import install, needs

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

    Library: TypeAlias = "Redis | RedisCluster"

Value = str | bytes | int | float
Node = tuple[str, int]
PROTOCOL: Final = 2


class BackendError(Exception):
    """The server gave no answer; `reason` is one of a closed set, and no text of the server's or of a url is kept."""

    def __init__(self, reason: str, kind: str) -> None:
        super().__init__(f"{reason} ({kind})")
        self.reason = reason


class MissingExtraError(ImportError):
    """The client library is not installed."""


def require_library() -> Any:  # noqa: ANN401  # a module, imported when the first backend is made
    """Return the client library; MissingExtraError where it is not installed."""
    try:
        import redis.asyncio
    except ImportError as error:
        raise MissingExtraError(f"{needs('a limit on a server', 'redis')}: {install('redis')}", name="redis") from error
    return redis


class Client:
    """A pool of connections of one event loop; `nodes` are those of a cluster that are known beside the url's."""

    def __init__(self, config: BackendConfig, nodes: Sequence[Node] = ()) -> None:
        redis = require_library()
        self._errors = redis.exceptions
        self._slot = redis.crc.key_slot if config.cluster else None
        self._sentinels: Sequence[Redis] = ()
        self._closed = False
        self._connected: Library = self._connect(redis, config, nodes)

    def slot(self, key: bytes) -> int:
        """Return what all keys of one script call must have in common."""
        return 0 if self._slot is None else self._slot(key)

    async def run(self, script: Script, keys: Sequence[bytes], values: Sequence[Value]) -> Any:  # noqa: ANN401
        """Run a script, which the server may have forgotten, and return its answer; BackendError for none.

        A connection that turns out to be closed is replaced once: what was charged through it stays charged.
        """
        try:
            try:
                return await self._run(script, keys, values)
            except self._errors.ConnectionError as error:
                if not _worth_another(self._errors, error):
                    raise
                return await self._run(script, keys, values)
        except Exception as error:  # of a cluster without nodes, of a url: not all have the library's base
            raise BackendError(_reason(self._errors, error), type(error).__name__) from None
        finally:
            if self._closed:  # what was connecting meanwhile is connected now
                await self.close()

    async def _run(self, script: Script, keys: Sequence[bytes], values: Sequence[Value]) -> Any:  # noqa: ANN401
        try:
            return await self._connected.evalsha(script.sha, len(keys), *keys, *values)
        except self._errors.NoScriptError:
            return await self._connected.eval(script.text, len(keys), *keys, *values)

    async def close(self) -> None:
        """Close every connection, whatever state it is in; one that is made just now as soon as it is there."""
        self._closed = True
        for one in (self._connected, *self._sentinels):
            with contextlib.suppress(Exception):  # it is given up, however it ends
                await one.aclose()

    def nodes(self) -> list[Node]:
        """Return the nodes of a cluster, as far as they are known."""
        cluster: Any = self._connected
        return [] if self._slot is None else [(node.host, int(node.port)) for node in cluster.get_nodes()]

    def _connect(self, redis: Any, config: BackendConfig, nodes: Sequence[Node]) -> Library:  # noqa: ANN401
        url, options = config.address(), _options(redis, config)
        if config.sentinel is not None:
            sentinel = _sentinel(redis, config.sentinel, url, options)
            self._sentinels = sentinel.sentinels
            master: Library = sentinel.master_for(config.sentinel.master)
            return master
        if config.cluster:
            # It follows a moved slot by trying again.
            options["retry"] = redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 3)
            options["startup_nodes"] = [redis.asyncio.cluster.ClusterNode(host, port) for host, port in nodes]
            cluster: Library = redis.asyncio.RedisCluster.from_url(url, **options)
            return cluster
        # One more than are ever in use: a full pool is no reason to refuse anybody.
        client: Library = redis.asyncio.Redis.from_url(url, max_connections=config.max_connections + 1, **options)
        return client


def _options(redis: Any, config: BackendConfig) -> dict[str, object]:  # noqa: ANN401
    url = config.address()
    options: dict[str, object] = {
        "protocol": PROTOCOL,
        "socket_timeout": config.timeout,
        "socket_connect_timeout": config.timeout,
        "retry": redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 0),
    }
    if config.username is not None:
        options["username"] = config.username
    if config.password is not None:
        options["password"] = secret(config.password)
    return options | _tls(config) if url.startswith("rediss://") else options


def _sentinel(redis: Any, given: Sentinels, url: str, options: dict[str, object]) -> Any:  # noqa: ANN401
    said = redis.asyncio.connection.parse_url(url)
    options = {key: said[key] for key in ("username", "password", "db") if key in said} | options
    if url.startswith("rediss://"):
        options["ssl"] = True
    nodes = [(host, int(port)) for host, _, port in (node.rpartition(":") for node in given.nodes)]
    bounds = {key: options[key] for key in ("socket_timeout", "socket_connect_timeout", "retry", "protocol")}
    return redis.asyncio.sentinel.Sentinel(nodes, sentinel_kwargs=bounds, **options)


def _tls(config: BackendConfig) -> dict[str, object]:
    tls = config.tls
    if tls is None:
        return {}
    given = {"ssl_ca_certs": tls.ca, "ssl_certfile": tls.certificate, "ssl_keyfile": tls.key}
    unverified = {} if tls.verify else {"ssl_cert_reqs": "none", "ssl_check_hostname": False}
    return {name: value for name, value in given.items() if value is not None} | unverified


def _worth_another(errors: Any, error: Exception) -> bool:  # noqa: ANN401
    """Tell whether a new connection may do what this one did not."""
    hopeless = (errors.AuthenticationError, errors.BusyLoadingError, errors.ReadOnlyError)
    return not isinstance(error, (*hopeless, errors.TimeoutError))


def _reason(errors: Any, error: BaseException) -> str:  # noqa: ANN401
    """Name what went wrong, in one of a few words fit for a label."""
    if isinstance(error, (errors.TimeoutError, TimeoutError)):
        return "timeout"
    if isinstance(error, errors.ReadOnlyError):
        return "read_only"
    if isinstance(error, (errors.AuthenticationError, errors.NoPermissionError)):
        return "forbidden"
    if isinstance(error, (errors.ConnectionError, errors.RedisClusterException, OSError, EOFError)):
        return "connection"
    return "refused" if isinstance(error, errors.RedisError) else "settings"


def config_of(client: object) -> BackendConfig:
    """Return the address and the credentials of a client of the library; TypeError where it does not show them."""
    pool = getattr(client, "connection_pool", None)
    given = getattr(pool, "connection_kwargs", None)
    if not isinstance(given, dict) or given.get("credential_provider") is not None:
        raise TypeError("expected a redis.asyncio.Redis or redis.Redis with an address of its own; pass redis_url else")
    secure = "SSL" in getattr(getattr(pool, "connection_class", None), "__name__", "")
    database = given.get("db") or 0
    if given.get("path"):
        url = f"unix://{given['path']}?db={database}"
    else:
        host = str(given.get("host") or "localhost")
        host = f"[{host}]" if ":" in host else host
        url = f"redis{'s' if secure else ''}://{host}:{given.get('port') or 6379}/{database}"
    tls = Tls(
        ca=given.get("ssl_ca_certs"), certificate=given.get("ssl_certfile"), key=given.get("ssl_keyfile"),
        verify=given.get("ssl_cert_reqs") not in ("none", None) if secure else True,
    )  # fmt: skip
    return BackendConfig(
        url=url, username=given.get("username"), password=given.get("password"), tls=tls if secure else None
    )
