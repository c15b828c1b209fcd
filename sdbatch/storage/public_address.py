"""Which network addresses a stranger's URL may lead to: public ones, in whatever spelling.

A manifest could otherwise make a worker fetch its cloud's metadata service, a database of its
own network or itself. Names are resolved first and addresses are judged, so `localhost`,
`2130706433`, `0x7f.1` and `::ffff:127.0.0.1` are all what they are.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_REFUSED = tuple(
    ipaddress.ip_network(text)
    for text in (
        "168.63.129.16/32",  # a cloud's host agent, in public clothes
        "192.0.0.0/24",  # protocol assignments, a cloud's metadata service among them
        "192.88.99.0/24",  # 6to4 relays, withdrawn
        "fec0::/10",  # site-local, withdrawn and still routed by some
        "64:ff9b:1::/48",  # translation into a local network
    )
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def why_not_public(address: str) -> str:
    """Why an address is none of the public internet, in a word or two; empty when it is.

    Args:
        address: As `getaddrinfo` spells it.
    """
    try:
        first = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "not an address"
    if "%" in address:
        return "link-local"
    return next((why for one in _unwrapped(first) if (why := _why_not(one))), "")


def _unwrapped(address: IPAddress) -> Iterator[IPAddress]:
    """The address, or the IPv4 addresses inside an IPv6 one that packets would end up at."""
    if isinstance(address, ipaddress.IPv4Address):
        yield address
        return
    inside: list[IPAddress] = []
    if address.ipv4_mapped is not None:
        inside.append(address.ipv4_mapped)
    if address in _NAT64:
        inside.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if address.sixtofour is not None:
        inside.append(address.sixtofour)
    if address.teredo is not None:
        inside += address.teredo
    yield from inside or [address]


def _why_not(address: IPAddress) -> str:
    for name in ("loopback", "link_local", "multicast", "unspecified", "private", "reserved"):
        if getattr(address, f"is_{name}"):
            return name.replace("_", "-")
    if not address.is_global or any(address in network for network in _REFUSED):
        return "not of the public internet"
    return ""
