"""What cede remembers of a host beyond what can be seen there: what a person told it to leave alone, where it had what.

Times are UTC, ISO 8601.
"""

from __future__ import annotations

from dataclasses import dataclass

from cede.address import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """What a person told cede to leave alone, as they named it (`target`); everything if that is empty.

    `domain` is a UUID, `device` a name of the policy or an address; one of both is empty. With `drained` the device is
    dom0's meanwhile. `until` is empty if only a person ends it.
    """

    target: str = ""
    domain: str = ""
    device: str = ""
    drained: bool = False
    who: str = ""
    reason: str = ""
    since: str = ""
    until: str = ""

    @property
    def everything(self) -> bool:
        """Whether it is about the whole host."""
        return not (self.domain or self.device)

    def __str__(self) -> str:
        what = "drained" if self.drained else "paused"
        wide = "" if self.everything else f" as {self.target}"
        until = f" until {self.until}" if self.until else ""
        why = f": {self.reason}" if self.reason else ""
        return f"{what}{wide} by {self.who or 'somebody'} since {self.since}{until}{why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """Where the last pass left a device that the policy assigns: in which domain, by UUID, and in which of its XMLs."""

    address: Address
    domain: str
    live: bool
    config: bool
