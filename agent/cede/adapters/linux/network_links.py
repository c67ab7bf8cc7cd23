"""The adapter to dom0's network interfaces: read their settings, and restore them after a device returns.

Source: ip-link(8), ip-address(8), ip-route(8), ip-nexthop(8), ip-xfrm(8), ip-l2tp(8), tc(8) (iproute2, `-json` and
`-batch`).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from cede.adapters.linux.network_answers import (
    arrays,
    filtered,
    functions_of,
    network_of,
    redirects,
    way_of,
)
from cede.adapters.linux.unrestored_settings import OPEN_VSWITCH, unrestored_settings
from cede.errors import PermanentError
from cede.model.pci import Link
from cede.util import process

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from cede.model.network import Network, Redirect
    from cede.model.virtual_functions import FunctionSettings

_EVERYTHING = ("address show", "route show table all", "nexthop show")
_SECONDS, _MAX_BYTES, _MAX_PEERS, _TRIES = 10.0, 4 * 1024 * 1024, 1000, 2
_IPSEC = re.compile(r"^src (\S+) dst (\S+)", re.MULTILINE)
# as ip-link(8) calls each setting of a virtual function; trust comes before what may need it
_SETTING = {
    "trust": "trust",
    "mac": "mac",
    "vlan": "vlan",
    "spoof_check": "spoofchk",
    "rate": "max_tx_rate",
    "link_state": "state",
}
_KERNEL_MADE = frozenset({"kernel_ll", "kernel_ra", "kernel_lo"})


class Links:
    """Asks and tells the kernel by `ip` and `tc`, which `run` runs; `run_apart` where a part of the answer will do."""

    def __init__(
        self,
        run: Callable[..., str] = process.run,
        run_apart: Callable[..., process.CompletedProcess] = process.run_apart,
    ) -> None:
        self._run = run
        self._run_apart = run_apart

    def read(self, names: Collection[str]) -> tuple[Link, ...]:
        """Return these interfaces as they are now, in the kernel's order, without those that do not exist.

        Raises PermanentError if `ip` is not installed, fails, or prints what can't be parsed.
        """
        if not names:
            return ()
        said = self._run("ip", "-json", "address", "show")
        try:
            return tuple(_link(one) for one in json.loads(said) if one["ifname"] in names)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise _unreadable("ip -json address", said) from error

    def functions(self, name: str) -> tuple[FunctionSettings, ...]:
        """Return how the virtual functions of the interface `name` are set up, in order; empty if it tells of none.

        Raises PermanentError as `network` does, and if there is no such interface.
        """
        said = self._run("ip", "-json", "-details", "link", "show", "dev", name)
        try:
            return next((functions_of(one) for answer in arrays(said) for one in answer), ())
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise _unreadable("ip -json link show", said) from error

    def switch_on(self, name: str) -> None:
        """Switch the interface on. Raises PermanentError if the kernel refuses."""
        self._run("ip", "link", "set", "dev", name, "up")

    def set_up_function(self, name: str, index: int, settings: FunctionSettings) -> None:
        """Set up the virtual function `index` of the interface `name`; what `settings` doesn't say stays as it is.

        Each is set on its own, so that the error names the one that the driver can't do. Raises PermanentError then.
        """
        for what, words in _SETTING.items():
            value = settings.said.get(what)
            if value is None:
                continue
            said = {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
            try:
                self._run("ip", "link", "set", "dev", name, "vf", str(index), words, said)
            except PermanentError as error:
                raise PermanentError(
                    f"the driver of {name} does not take {words} {said} for virtual function {index}: {error.message}",
                    name="function-setting-refused",
                    remedy=f"take `{what}` out of `virtual_functions` in the policy if the driver can't do it",
                ) from error

    def network(self) -> Network:
        """Return all interfaces, with what `restore` doesn't bring back, and all routes, of every table and next hop.

        Raises PermanentError if `ip` is not installed, fails, or prints what can't be parsed or can't be: no host is
        without a loopback interface.
        """
        said = self._run(
            "ip", "-json", "-details", "-batch", "-", stdin="\n".join(_EVERYTHING) + "\n"
        )
        try:
            shown, routes, hops = arrays(said)
            unrestored = unrestored_settings(shown, routes, hops)
            found = network_of(shown, routes, hops, unrestored)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise _unreadable("ip -json -batch", said) from error
        if not any(interface.name == "lo" for interface in found.interfaces):
            raise _unreadable("ip -json address", said)
        return found

    def ways(self, peers: Sequence[str]) -> dict[str, str]:
        """Return the interface by which the kernel reaches each IP address that has a route, in one run of `ip`.

        Of more than 1,000 addresses it tells the first. Raises PermanentError as `network` does.
        """
        if not peers:
            return {}
        asked = "".join(f"route get {peer}\n" for peer in peers[:_MAX_PEERS])
        done = self._run_apart(
            *("ip", "-json", "-force", "-batch", "-"),
            stdin=asked,
            seconds=_SECONDS,
            most=_MAX_BYTES,
        )
        said = done.out.decode("utf-8", "replace")
        try:
            return dict(way for answer in arrays(said) for way in way_of(answer))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise _unreadable("ip -json route get", said) from error

    def ipsec_ends(self) -> tuple[tuple[str, str], ...]:
        """Return the local and the other end of each IPsec tunnel that the kernel has; empty if it has no IPsec.

        Raises PermanentError if `ip` is not installed.
        """
        done = self._run_apart("ip", "xfrm", "state", stdin="", seconds=_SECONDS, most=_MAX_BYTES)
        ends = _IPSEC.findall(done.out.decode("utf-8", "replace"))
        return tuple(dict.fromkeys((str(one), str(other)) for one, other in ends))

    def l2tp_ends(self) -> tuple[tuple[str, str], ...]:
        """Return the local and the other end of each L2TP tunnel that the kernel has.

        Raises PermanentError as `network` does.
        """
        said = self._run("ip", "-json", "l2tp", "show", "tunnel")
        try:
            shown = [tunnel for answer in arrays(said) for tunnel in answer]
            return tuple((str(one["local"]), str(one["peer"])) for one in shown)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise _unreadable("ip -json l2tp show tunnel", said) from error

    def redirects(self) -> tuple[Redirect, ...]:
        """Return what traffic control hands on from one interface to another.

        What changes while it is asked for is asked for twice. Raises PermanentError as `network` does.
        """
        for _ in range(_TRIES):
            qdiscs = self._run("tc", "-json", "qdisc", "show")
            try:
                places = filtered([one for answer in arrays(qdiscs) for one in answer])
                if not places:
                    return ()
                asked = "".join(f"filter show dev {name} {place}\n" for name, place in places)
                done = self._run_apart(
                    *("tc", "-json", "-force", "-batch", "-"),
                    stdin=asked,
                    seconds=_SECONDS,
                    most=_MAX_BYTES,
                )
                said = done.out.decode("utf-8", "replace")
                answers = arrays(said)
                if len(answers) == len(places):
                    named = zip(places, answers, strict=True)
                    return tuple(
                        dict.fromkeys(r for (name, _), of in named for r in redirects(name, of))
                    )
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                raise _unreadable("tc -json", qdiscs) from error
        raise _unreadable("tc -json filter show", said)

    def restore(self, link: Link, now: Link) -> None:
        """Change the interface from `now` to `link`: name, MTU, master, up, addresses; the rest is `unrestored`.

        Raises PermanentError for the first change that the kernel refuses.
        """
        for command in _commands(link, now):
            self._run("ip", *command)


def _unreadable(command: str, said: str) -> PermanentError:
    return PermanentError(
        f"`{command}` printed what cede can't parse: {said[:200]!r}", name="unreadable-answer"
    )


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
    # Open vSwitch's own daemon takes its ports, and nobody else can
    joins = link.master not in {None, OPEN_VSWITCH, now.master}
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
