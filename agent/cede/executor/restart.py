"""Restart: a domain is shut down as it would itself, within a time limit, and started from its persistent XML.

It is forced off only where the administrator says so. A guest that is off is started in any case, so that a try that
was interrupted goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.errors import NOT_STARTED, CedeError, GuestSilentError, PermanentError, UnsafeError
from cede.executor.host_now import running_now
from cede.util.retry import wait_until

if TYPE_CHECKING:
    from cede.adapters.ports import Adapters
    from cede.model.actions import RestartDomain

_POLL = 0.5
_FORCED_SECONDS = 60.0


def restart(adapters: Adapters, action: RestartDomain) -> None:
    """Do the action; returns once libvirt says that the domain runs again.

    Raises UnsafeError for a domain that would be gone then, GuestSilentError if it doesn't shut down in time: it keeps
    running, and may still do what it was asked. Raises PermanentError, named NOT_STARTED, if it is off and can't be
    started, or ends at once.
    """
    name = action.domain
    running = _running(adapters, name)
    if running == action.domid:
        _refuse_transient(adapters, name)
        _shut_down(adapters, action)
        running = _running(adapters, name)
    if running is not None:
        return  # as `on_poweroff` says, or by somebody else
    try:
        adapters.timeouts.call(f"starting {name}", lambda: adapters.libvirt.start(name))
    except CedeError as error:
        if _running(adapters, name) is None:
            raise _not_started(name, error.message) from error
    if _running(adapters, name) is None:
        raise _not_started(name, "it ended as soon as it had started")


def _shut_down(adapters: Adapters, action: RestartDomain) -> None:
    name = action.domain

    def off() -> bool:
        return _running(adapters, name) != action.domid

    refused: CedeError | None = None
    try:
        adapters.timeouts.call(f"shutting {name} down", lambda: adapters.libvirt.shut_down(name))
    except CedeError as error:
        refused = error
    if refused is None and wait_until(off, action.seconds, adapters.clock, pause=_POLL):
        return
    if not action.force:
        raise refused or GuestSilentError(
            f"{name} did not shut down within {action.seconds} s; cede does not force a guest",
            name="shutdown-timeout",
            remedy=f"shut {name} down from inside, and start it (`virsh start {name}`)",
        )
    adapters.timeouts.call(f"forcing {name} off", lambda: adapters.libvirt.destroy(name))
    if not wait_until(off, _FORCED_SECONDS, adapters.clock, pause=_POLL):
        raise PermanentError(f"{name} was forced off, and still runs", name="domain-not-off")


def _running(adapters: Adapters, name: str) -> int | None:
    """Return the domain's id, None if it doesn't run."""
    domain = running_now(adapters, name)
    return None if domain is None else domain.domid


def _refuse_transient(adapters: Adapters, name: str) -> None:
    domain = adapters.timeouts.call("asking libvirt", lambda: adapters.libvirt.domain(name))
    if domain is not None and not domain.persistent:
        raise UnsafeError(
            f"{name} is transient, and would be gone after a shutdown",
            name="domain-transient",
            remedy="first make the domain persistent: virsh dumpxml, then virsh define",
        )


def _not_started(name: str, why: str) -> PermanentError:
    return PermanentError(
        f"{name} was shut down and does not start: {why}",
        name=NOT_STARTED,
        remedy=f"`virsh start {name}`; the end of /var/log/libvirt/libxl/libxl-driver.log says more",
    )
