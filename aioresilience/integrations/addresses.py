"""Who calls, when proxies stand in between."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Final

UNKNOWN: Final = "unknown"
"""The address of a client that the server does not name, as on a Unix socket."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class TrustedProxies:
    """The proxies whose word is taken for where a request came from: addresses, networks, and "unix" for Unix sockets.

    `X-Forwarded-For` is read from right to left, since a client can write whatever it likes on the left; the first
    address that is none of ours is the client. Raises ValueError for what is no address or network.
    """

    __slots__ = ("_networks", "_unix")

    def __init__(self, proxies: Iterable[str] = ()) -> None:
        if isinstance(proxies, str):
            raise TypeError(f"expected a list of addresses and networks, got the string {proxies!r}")
        named = tuple(proxies)
        self._unix = "unix" in named
        self._networks = tuple(ipaddress.ip_network(name, strict=False) for name in named if name != "unix")

    def client(self, peer: str | None, forwarded: Sequence[str]) -> str:
        """Return the address of the client: of `peer`, unless trusted proxies say otherwise."""
        address = None if peer is None else parse(peer)
        hops = [hop for line in forwarded for hop in line.split(",")]
        trusted = self._unix if peer is None else self._trusts(address)
        while trusted and hops:
            before = parse(hops.pop())
            if before is None:  # a proxy of ours passed on what is no address: nobody further away is believed
                break
            address, trusted = before, self._trusts(before)
        return str(address) if address is not None else peer or UNKNOWN

    def trusts(self, peer: str | None) -> bool:
        """Tell whether a connection comes from one of them."""
        return self._unix if peer is None else self._trusts(parse(peer))

    def _trusts(self, address: _Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)


def parse(text: str) -> _Address | None:
    """Read an address with or without a port; one of IPv4 within IPv6 is the former; None for anything else."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
