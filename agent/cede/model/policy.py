"""The policy as values.

*Assigned* is what the policy says, *attached* what is so; this module knows only the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from cede.model.pci import Address
from cede.model.virtual_functions import FunctionSettings

HOST_SOURCE = "host"  # the host's own set: its policy file and the files of its policy folder
_FILE = "file:"
_HOST_FILE = "/etc/cede/policy.yaml"  # how older ownership metadata names the host's set


def file_source(real_paths: Sequence[str]) -> str:
    """Return the identity of a policy in files that are not the host's set; absolute, with all links resolved."""
    return _FILE + ":".join(real_paths)


def source_of_note(text: str) -> str:
    """Return the source that ownership metadata names; older metadata has the policy's path as it was typed.

    A relative path of old is no policy's: which folder it was relative to is not known.
    """
    if text == _HOST_FILE:
        return HOST_SOURCE
    return _FILE + text if text.startswith("/") else text


def source_text(source: str) -> str:
    """Return how a source is called in sentences."""
    source = source_of_note(source)
    return "the host's policy" if source == HOST_SOURCE else source.removeprefix(_FILE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A place in a file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Channel(StrEnum):
    """How cede learns whether the guest has the device: from the guest, from the device itself, or not at all."""

    CONSOLE = "console"
    SSH = "ssh"
    XENSTORE = "xenstore"
    DEVICE = "device"
    NONE = "none"


class OnDrift(StrEnum):
    """What a scheduled pass does about a device that is no longer where it was assigned."""

    RESTORE = "restore"
    REPORT = "report"


class Functions(StrEnum):
    """Which functions of its slot a device of the policy means: the matched one, or all of them, the whole card."""

    ONE = "one"
    ALL = "all"


class When(StrEnum):
    """Whether a running domain gets the device at once, or when it is next started."""

    NOW = "now"
    NEXT_START = "next-start"


class Restart(StrEnum):
    """Whether cede restarts the domain where a device can only come so: never, when asked, or by itself."""

    NEVER = "never"
    WHEN_ASKED = "when-asked"
    ALLOWED = "allowed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The hours in which the agent may restart domains by itself, in dom0's local time.

    From `begin` to `end`, minutes after midnight, and past midnight if `end` isn't later; it opens on `days`, of which
    0 is Monday.
    """

    begin: int
    end: int
    days: tuple[int, ...]
    place: Place

    def open_at(self, weekday: int, minutes: int) -> bool:
        """Return whether it is open so many minutes after midnight of that day of the week."""
        today, yesterday = weekday in self.days, (weekday - 1) % 7 in self.days
        if self.begin < self.end:
            return today and self.begin <= minutes < self.end
        return (today and minutes >= self.begin) or (yesterday and minutes < self.end)


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Which device a policy means; fields that are None do not count, all others must hold.

    `path` is the way from the root bus, bridge by bridge (`pci0000:00/08.0/00.0`), which holds when bus numbers shift.
    `class_code` may be the first two, four or all six digits. `physical_function` with `function_index` (from 0) is an
    SR-IOV virtual function; `physical_name` is how the policy names the physical function instead, which only
    `planner.resolve` can turn into its address. Exactly one device must fit, unless `any_one` says that the first free
    one will do.
    """

    address: Address | None = None
    path: str | None = None
    vendor: str | None = None
    device: str | None = None
    subsystem: str | None = None
    class_code: str | None = None
    mac: str | None = None
    serial: str | None = None
    physical_function: Address | None = None
    physical_name: str | None = None
    function_index: int | None = None
    any_one: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Expect:
    """The identity that cede checks before every attach; fields that are None do not count."""

    vendor: str | None = None
    device: str | None = None
    subsystem: str | None = None
    class_code: str | None = None
    mac: str | None = None
    serial: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedFunctions:
    """The virtual functions that a device is to have: `count` of them, each with the `settings`.

    `macs` are those of each, in order; empty where cede is to derive them.
    """

    count: int
    macs: tuple[str, ...] = ()
    settings: FunctionSettings = field(default_factory=FunctionSettings)
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePolicy:
    """One named device of the policy.

    With all `functions` of its slot, `match` and `expect` are about one of them. `override` names the guards that may
    not keep it (`boot-vga`, say): the only way past them, device by device. `virtual_functions` are
    those that it is to have; None leaves them as they are.
    """

    name: str
    match: Match
    expect: Expect
    functions: Functions = Functions.ONE
    override: tuple[str, ...] = ()
    virtual_functions: WantedFunctions | None = None
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Protect:
    """Devices that the administrator adds to what the host keeps; all that match are meant."""

    match: Match
    reason: str
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """How cede asks one guest, and as which user.

    On the console cede logs in as `user` with the password in `password_file`, if asked to. ssh goes to `host`,
    as ssh(1) takes it, as `user` and with `identity_file` if given. `timeout` is in seconds, for all questions.
    """

    guest: Channel = Channel.CONSOLE
    user: str | None = None
    password_file: str | None = None
    host: str | None = None
    identity_file: str | None = None
    timeout: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One device assigned to one domain (by name or UUID).

    Without an `optional` device the domain is as it should be, and starts, while the device isn't there.

    `permissive` lets the guest write all of the configuration space. `adopt` takes over a hostdev that the
    administrator added.
    """

    device: str
    domain: str
    verification: Verification = Verification()
    on_drift: OnDrift = OnDrift.RESTORE
    when: When = When.NOW
    restart: Restart = Restart.NEVER
    permissive: bool = False
    adopt: bool = False
    optional: bool = False
    place: Place


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The whole policy; every assignment's device is among the devices.

    `alternatives` are groups of domains of which one at a time has a device that is assigned to several of them.
    `source` is the policy's identity, as the ownership metadata in domains has it: HOST_SOURCE, or `file_source`.
    The agent restarts domains in the `window` alone, at any time if that is None.
    With `keeps_unmentioned` a pass leaves in domains what was given for the policy and is no device of it now.
    """

    devices: tuple[DevicePolicy, ...] = ()
    assignments: tuple[Assignment, ...] = ()
    protect: tuple[Protect, ...] = ()
    alternatives: tuple[tuple[str, ...], ...] = ()
    source: str = ""
    keeps_unmentioned: bool = False
    window: Window | None = None

    @cached_property
    def _by_name(self) -> dict[str, DevicePolicy]:
        return {device.name: device for device in self.devices}

    @cached_property
    def _by_device(self) -> dict[str, list[Assignment]]:
        found: dict[str, list[Assignment]] = {}
        for assignment in self.assignments:
            found.setdefault(assignment.device, []).append(assignment)
        return found

    def device(self, name: str) -> DevicePolicy | None:
        """Return the device of that name, or None."""
        return self._by_name.get(name)

    def assignments_of(self, device: str) -> Sequence[Assignment]:
        """Return the assignments of the device of that name, in the policy's order."""
        return self._by_device.get(device, ())

    def restarts_at(self, weekday: int, minutes: int) -> frozenset[Restart]:
        """Return which restarts need no word of the administrator at that time of dom0's clock."""
        open_now = self.window is None or self.window.open_at(weekday, minutes)
        return frozenset({Restart.ALLOWED} if open_now else ())

    def gave(self, source: str) -> bool:
        """Tell whether ownership metadata that names the policy `source` means this one."""
        return bool(source) and source_of_note(source) == self.source
