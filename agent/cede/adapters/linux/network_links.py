"""The adapter to dom0's network interfaces: read their settings, and restore them after a device returns.

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
        """Return these interfaces as they are now, in the kernel's order, without those that do not exist.

        Raises PermanentError if `ip` is not installed, fails, or prints what can't be parsed.
        """
        if not names:
            return ()
        return self._show(
            lambda shown: tuple(_link(one) for one in shown if one["ifname"] in names)
        )

    def addresses(self) -> dict[str, str]:
        """Return each of dom0's own IP addresses, IPv4 and IPv6, with its interface's name. Raises as `read` does."""
        return self._show(
            lambda shown: {
                str(ip_address(address["local"])): str(link["ifname"])
                for link in shown
                for address in link.get("addr_info", ())
                if "local" in address
            }
        )

    def restore(self, link: Link, now: Link) -> None:
        """Change the interface from `now` to `link`: name, MTU, master, up, addresses.

        Raises PermanentError for the first change that the kernel refuses.
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
                f"`ip -json address` printed what cede can't parse: {said[:200]!r}",
                name="unreadable-answer",
            ) from error


def _link(found: dict[str, Any]) -> Link:
    flags = found["flags"]
    return Link(
        name=str(found["ifname"]),
        # a bond gives its ports its own MAC; the card returns with its permanent one
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
    """Whether to restore the address: not one that the kernel makes, nor a lease, which a DHCP client renews."""
    made = address.get("protocol") in _KERNEL_MADE or address.get("scope") in {"link", "host"}
    return not (made or address.get("dynamic"))


def _commands(link: Link, now: Link) -> Iterator[tuple[str, ...]]:
    joins = link.master is not None and now.master != link.master
    # an interface that is up can neither be renamed nor join a bond
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
        # an interface that goes down loses its IPv6 addresses
        if down or address not in now.addresses:
            yield ("address", "replace", address, "dev", link.name)
