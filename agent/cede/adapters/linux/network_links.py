"""The adapter to dom0's network interfaces: what one was before its card was taken, and making it so again.

Source: ip-link(8), ip-address(8) (iproute2, `-json`).
"""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, TypeVar

from cede.errors import PermanentError
from cede.model.pci import Link
from cede.util import process

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

_T = TypeVar("_T")
_KERNEL_MADE = frozenset({"kernel_ll", "kernel_ra", "kernel_lo"})


class Links:
    """Asks and tells the kernel through `ip`, which `run` runs; the only place that asks for dom0's IP addresses."""

    def __init__(self, run: Callable[..., str] = process.run) -> None:
        self._run = run

    def read(self, names: Collection[str]) -> tuple[Link, ...]:
        """These interfaces as they are now, in the kernel's order; one that isn't there is left out.

        Raises PermanentError if `ip` isn't there, fails or prints what can't be read.
        """
        if not names:
            return ()
        return self._show(
            lambda shown: tuple(_link(one) for one in shown if one["ifname"] in names)
        )

    def addresses(self) -> dict[str, str]:
        """Each of dom0's own IP addresses, IPv4 and IPv6, with the name of its interface. Raises as `read` does."""
        return self._show(
            lambda shown: {
                str(ip_address(address["local"])): str(link["ifname"])
                for link in shown
                for address in link.get("addr_info", ())
                if "local" in address
            }
        )

    def restore(self, link: Link, now: Link) -> None:
        """Make the interface that is as `now` says what `was` says: name, MTU, master, up, addresses.

        Raises PermanentError for the first of these that the kernel refuses.
        """
        for command in _commands(link, now):
            self._run("ip", *command)

    def _show(self, read: Callable[[list[dict[str, Any]]], _T]) -> _T:
        """What `read` makes of all interfaces."""
        said = self._run("ip", "-json", "address", "show")
        try:
            return read(json.loads(said))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise PermanentError(
                f"ip -json address printed what can't be read: {said[:200]!r}",
                name="unreadable-answer",
            ) from error


def _link(found: dict[str, Any]) -> Link:
    flags = found["flags"]
    return Link(
        name=str(found["ifname"]),
        # a bond lends its ports its own MAC, which a card doesn't come back with
        mac=str(found.get("permaddr") or found.get("address", "")),
        up="UP" in flags,
        carrier="LOWER_UP" in flags,
        mtu=int(found["mtu"]),
        master=found.get("master"),
        addresses=tuple(
            f"{one['local']}/{one['prefixlen']}"
            for one in found.get("addr_info", ())
            if "local" in one and _kept(one)
        ),
    )


def _kept(address: dict[str, Any]) -> bool:
    """Not what the kernel makes itself, nor a lease: a DHCP client takes its own anew when it sees the carrier."""
    made = address.get("protocol") in _KERNEL_MADE or address.get("scope") in {"link", "host"}
    return not (made or address.get("dynamic"))


def _commands(link: Link, now: Link) -> Iterator[tuple[str, ...]]:
    joins = link.master is not None and now.master != link.master
    # neither a new name nor a bond takes an interface that is up
    down = now.name != link.name or (joins and now.up)
    if down:
        yield ("link", "set", "dev", now.name, "down")
    if now.name != link.name:
        yield ("link", "set", "dev", now.name, "name", link.name)
    if link.mtu is not None and now.mtu != link.mtu:
        yield ("link", "set", "dev", link.name, "mtu", str(link.mtu))
    if link.master is not None and joins:
        yield ("link", "set", "dev", link.name, "master", link.master)
    if link.up != (now.up and not down):
        yield ("link", "set", "dev", link.name, "up" if link.up else "down")
    for address in link.addresses:
        # one that goes down loses those of IPv6
        if down or address not in now.addresses:
            yield ("address", "replace", address, "dev", link.name)
