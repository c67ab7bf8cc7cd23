"""What the agent's own resources are as JSON, each one value.

schemas/agent.openapi.yaml is generated from their types.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from cede.commands.exit_status import Exit
from cede.errors import CedeError
from cede.model.conditions import Condition, Time
from cede.model.domain import DomainName
from cede.model.pci import Address, Identity
from cede.state.history import ChangeRecord


class OperationState(StrEnum):
    """Whether an operation runs, came to its end, or was interrupted since the agent ended before it."""

    RUNNING = "running"
    ENDED = "ended"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationOutput:
    """One operation. Times are UTC, ISO 8601.

    `id` is in its address, `/v1/operations/{id}`; `command` and `request` are what was asked, by the user `requester`;
    `state` says how far it is; `started` is when it began; `ended` is None before its end; `exit` is the exit status of
    the command, None before its end; `digest` is that of the plan that a preview showed, else empty; `error` is why the
    command ended in an error, None if it did not; `changes` are what the journal has of it, the newest first.
    """

    id: str
    command: str
    request: Mapping[str, str | float | bool | tuple[str, ...]]
    requester: str
    state: OperationState
    started: Time
    ended: Time | None
    exit: Exit | None
    digest: str
    error: CedeError | None
    changes: tuple[ChangeRecord, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationsOutput:
    """The operations that are known; in `operations` the newest is first, each without its changes."""

    operations: tuple[OperationOutput, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewOutput:
    """What an action would do.

    `exit` is the exit status if it is declined; `digest` is that of the plan, `nothing` if there is nothing to do;
    `text` is what the command prints of the plan.
    """

    exit: Exit
    digest: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostOutput:
    """The agent and its host.

    `version` is cede's; `started` is when the agent began; `policy` is the source of the policy that it follows;
    `conditions` are those of the host and of every assignment, as the last pass left them; `running` are the ids of the
    operations that run.
    """

    version: str
    started: Time
    policy: str
    conditions: tuple[Condition, ...]
    running: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NamesOutput:
    """What devices and domains are called, as the last pass saw them; nothing before the first pass.

    `devices` are the names that the policy gives, then the addresses; `domains` are the names of libvirt's domains.
    """

    devices: tuple[str, ...]
    domains: tuple[DomainName, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicNames:
    """What the read-only socket tells of names, as the last pass saw them.

    `devices` are the addresses; `domains` are the names of libvirt's domains.
    """

    devices: tuple[Address, ...]
    domains: tuple[DomainName, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicHost:
    """What the read-only socket tells of the agent: the `version` of cede."""

    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicDevice:
    """What anybody may see of a device.

    `address` is its place; `identity` is what it says it is; `driver` is its driver in dom0, None without one;
    `running_in` are the running domains that have it; `assigned_to` are the domains whose persistent XML has it.
    """

    address: Address
    identity: Identity
    driver: str | None
    running_in: tuple[DomainName, ...]
    assigned_to: tuple[DomainName, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicDevices:
    """What the read-only socket tells of the `devices`: those of the host, by address."""

    devices: tuple[PublicDevice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicStatus:
    """What the read-only socket tells of the assignments.

    `devices` are those that a domain has or will have, by address.
    """

    devices: tuple[PublicDevice, ...]
