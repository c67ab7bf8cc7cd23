"""What a command is asked, as values that are JSON both ways.

`policy` is the path of a policy, empty for the host's own; a path is absolute, since the agent has another working
directory. `wait` is how long to wait for another running cede, in seconds. A request with `preview` shows what would
be done and changes nothing; its answer has the digest of that plan, and a request with that digest as `plan` does
nothing else than that plan.
"""

from __future__ import annotations

from dataclasses import dataclass

from cede.commands.answer import MOST_CHANGES, WAIT_SECONDS, WATCH_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusRequest:
    """Desired against actual; with `watch` again every `interval` seconds, until the session is stopped."""

    policy: str = ""
    watch: bool = False
    interval: float = WATCH_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicesRequest:
    """Every PCI device, or those at the addresses `devices`; `save` is a file to write the observed host to.

    They are printed in a table, or as a `tree` below their bridges.
    """

    devices: tuple[str, ...] = ()
    long: bool = False
    tree: bool = False
    save: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """What an apply would do; `host` is a file that has another, observed host."""

    policy: str = ""
    scheduled: bool = False
    prune: bool = False
    diff: bool = False
    host: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorRequest:
    """What would make passthrough fail; for one device and one domain if both are named.

    `log` are lines of the domain's own log, which are examined for the pair.
    """

    device: str = ""
    domain: str = ""
    log: tuple[str, ...] = ()
    policy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorFixRequest:
    """The same, and what is harmless to fix is fixed."""

    device: str = ""
    domain: str = ""
    log: tuple[str, ...] = ()
    policy: str = ""
    wait: float = WAIT_SECONDS
    preview: bool = False
    plan: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryRequest:
    """The newest `most` changes; only those `about` an address, a device or a domain if it is not empty."""

    about: str = ""
    most: int = MOST_CHANGES


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyRequest:
    """Make the host what the policy says.

    With `restart` domains are restarted whose assignments permit that and wait for it; with `force` also those that
    don't shut down by themselves.
    """

    policy: str = ""
    scheduled: bool = False
    prune: bool = False
    restart: bool = False
    force: bool = False
    wait: float = WAIT_SECONDS
    preview: bool = False
    plan: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachRequest:
    """Give a device to a domain once; `verify` is the channel to ask the guest by, empty as the policy says."""

    device: str
    domain: str
    permissive: bool = False
    next_start: bool = False
    verify: str = ""
    policy: str = ""
    wait: float = WAIT_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class DetachRequest:
    """Take a device out of its guest and keep it on pciback."""

    device: str
    policy: str = ""
    wait: float = WAIT_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRequest:
    """Take a device out of its guest and return it to dom0."""

    device: str
    policy: str = ""
    wait: float = WAIT_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyRequest:
    """Ask every guest again; with `restart` those in sync are shut down and started, and asked once more."""

    policy: str = ""
    explain: bool = False
    restart: bool = False
    wait: float = WAIT_SECONDS
    preview: bool = False
    plan: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseRequest:
    """Leave a domain or a device as it is, for `lasting` seconds, or until a resume if that is 0."""

    target: str
    lasting: float = 0.0
    reason: str = ""
    policy: str = ""
    wait: float = WAIT_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainRequest:
    """Return what a domain or a device has to dom0 until a resume; everything if `target` is empty."""

    target: str = ""
    reason: str = ""
    policy: str = ""
    wait: float = WAIT_SECONDS
    preview: bool = False
    plan: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeRequest:
    """End the pauses and drains of `target`, all of them if it is empty; with `host` only the whole host's drain."""

    target: str = ""
    host: bool = False
    policy: str = ""
    wait: float = WAIT_SECONDS
    preview: bool = False
    plan: str = ""


Request = (
    StatusRequest
    | DevicesRequest
    | PlanRequest
    | DoctorRequest
    | DoctorFixRequest
    | HistoryRequest
    | ApplyRequest
    | AttachRequest
    | DetachRequest
    | ReleaseRequest
    | VerifyRequest
    | PauseRequest
    | DrainRequest
    | ResumeRequest
)
