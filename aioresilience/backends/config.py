"""What a backend can be told: where the server is, how to reach it, how long to wait for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from aioresilience.fields import Count, PositiveSeconds

SCHEMES: Final = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss", "unix": "unix"}
"""What a url may begin with, and what the client library calls it."""
ADDRESS_PATTERN: Final = r"^[^\s:@/]+:[0-9]{1,5}$"
PREFIX_PATTERN: Final = r"^[A-Za-z0-9_.:/-]+$"
Text = Annotated[str, Field(min_length=1)]


class Part(BaseModel):
    """A frozen, strict block; what it was given never shows in its errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True,
        hide_input_in_errors=True,
    )  # fmt: skip


class SecretFile(Part):
    """A file whose content is the value, such as a mounted secret."""

    file: Text = Field(description="Path of the file; its content, without the last line break, is the value.")


class Tls(Part):
    """How a server behind `rediss://` is verified, and how this side shows who it is."""

    ca: Text | None = Field(default=None, description="File of the authority to trust; unset: the system's.")
    certificate: Text | None = Field(default=None, description="File of this side's certificate.")
    key: Text | None = Field(default=None, description="File of its private key.")
    verify: bool = Field(default=True, description="Whether the server's certificate and name are verified.")


class Sentinels(Part):
    """Who knows which server is the master now."""

    master: Text = Field(description="Name of the group of servers, as the sentinels know it.")
    nodes: Annotated[tuple[Annotated[str, Field(pattern=ADDRESS_PATTERN)], ...], Field(strict=False, min_length=1)] = (
        Field(description="Addresses of the sentinels, such as sentinel-1.example.invalid:26379.")
    )


class BackendConfig(Part):
    """A server that limits are shared through."""

    type: Literal["redis"] = Field(default="redis", description="What kind of server it is; Valkey is redis too.")
    url: str | SecretFile = Field(
        repr=False,
        description="Where it is, such as redis://127.0.0.1:6379/0; or a secret file. Sentinels replace its host.",
    )
    username: str | None = Field(default=None, description="User of an access control list; unset: the default one.")
    password: str | SecretFile | None = Field(
        default=None, repr=False, description="Its password; best as a secret file, which is read at every connect."
    )
    cluster: bool = Field(default=False, description="Whether it is a cluster; the url then names any of its nodes.")
    sentinel: Sentinels | None = Field(default=None, description="The sentinels that know the master.")
    tls: Tls | None = Field(default=None, description="How a rediss:// server is verified; unset: as the system does.")
    max_connections: Count = Field(default=4, description="Connections of one process; checks beyond share a trip.")
    timeout: PositiveSeconds = Field(
        default=0.25, description="Longest that a call waits for the server, once; then it counts as away."
    )
    slow: PositiveSeconds = Field(
        default=0.02, description="A median answer above this for a second counts as away, too."
    )
    fleet_size: Count | None = Field(
        default=None, description="Processes that share the limits, for when the server is away; unset: as last seen."
    )
    prefix: Annotated[str, Field(pattern=PREFIX_PATTERN, max_length=100)] = Field(
        default="aioresilience", description="What all keys on the server begin with; another one is another limit."
    )

    @field_validator("url")
    @classmethod
    def _url_is_known(cls, url: str | SecretFile) -> str | SecretFile:
        if isinstance(url, str):
            check_url(url)
        return url

    def place(self) -> tuple[object, ...]:
        """Tell one place of counting from another, whoever asks there: no user and no password is part of it."""
        url = urlsplit(self.url) if isinstance(self.url, str) else None
        where = self.url if url is None else (url.hostname, url.port, url.path)
        return where, self.sentinel, self.prefix

    def address(self) -> str:
        """Return the url with the scheme as the client library knows it; reads the secret file."""
        url = check_url(secret(self.url))
        scheme, _, rest = url.partition("://")
        return f"{SCHEMES[scheme.lower()]}://{rest}"


def check_url(url: str) -> str:
    """Return the url; ValueError, without a word of it, where no server can be at it."""
    if url.partition("://")[0].lower() not in SCHEMES:
        raise ValueError("expected a url that begins with redis://, rediss://, valkey:// or unix://")
    try:
        port = urlsplit(url).port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("expected a url with a port from 1 to 65535, as in redis://127.0.0.1:6379/0")
    return url


def secret(value: str | SecretFile) -> str:
    """Return the value, or what the file holds; OSError where that cannot be read."""
    if isinstance(value, str):
        return value
    return Path(value.file).read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
