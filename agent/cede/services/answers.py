"""Collect what a host's daemons, programs and device nodes answer, to be asked again where there is no host."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from cede.errors import CedeError
from cede.model.host_answers import DeviceUses, HostAnswers, NoAnswer, XenOwner
from cede.model.journal_state import JournalState
from cede.model.network import Network
from cede.services.observe import LIBVIRT_SECONDS, find_uses

if TYPE_CHECKING:
    from collections.abc import Callable

    from cede.adapters.ports import Adapters
    from cede.model.domain import Domain
    from cede.model.host_answers import Asked
    from cede.model.inventory import BackendDevice
    from cede.model.pci import Address, HostUse

_T = TypeVar("_T")
_PATH = re.compile(r"(?<![A-Za-z0-9_.-])/(?!dev/)[^\s,;()]+")


class _Questions:
    """Asks, and keeps what came instead of an answer."""

    def __init__(self, adapters: Adapters) -> None:
        self._adapters = adapters
        self.silences: list[NoAnswer] = []

    def ask(self, asked: Asked, question: Callable[[], _T]) -> _T | None:
        adapters = self._adapters
        try:
            return adapters.timeouts.call("the report", question, seconds=LIBVIRT_SECONDS)
        except CedeError as error:
            found = adapters.daemons.explain(error)
            self.silences.append(
                NoAnswer(asked=asked, name=found.name, message=found.message, remedy=found.remedy)
            )
            return None


def collect_answers(adapters: Adapters, *, is_root: bool) -> HostAnswers:
    """Ask everything once; what doesn't answer is noted, and none of cede's errors leaves it."""
    questions = _Questions(adapters)
    ask = questions.ask
    domains = ask("domains", lambda: adapters.libvirt.domains())  # noqa: PLW0108 - a shut adapter raises when it is named
    listed = None
    if domains is not None:
        listed = ask("node-devices", lambda: adapters.libvirt.node_devices())  # noqa: PLW0108 - as above
    backend = ask("xenstore", lambda: adapters.xenstore.backend())  # noqa: PLW0108 - as above
    network = ask("network", lambda: adapters.links.network())  # noqa: PLW0108 - as above
    uses = None
    if network is not None:
        known_network = network
        uses = ask("uses", lambda: _uses(adapters, known_network, domains, backend))
    memory = ask("journal", adapters.journal.load_state)
    notes = () if backend is None else adapters.xenstore.stale_notes()
    found = HostAnswers(
        domains=domains,
        node_devices=None if listed is None else tuple(sorted(listed)),
        backend=backend,
        libxl_notes=notes,
        network=network,
        uses=None if uses is None else tuple(_brief(at, of) for at, of in sorted(uses.items())),
        owners=_owners(adapters, backend or ()),
        hypervisor=adapters.hypervisor.kind(),
        is_dom0=adapters.hypervisor.is_dom0(),
        virtualisation=adapters.hypervisor.virtualisation() if is_root else (),
        xen_command_line=adapters.hypervisor.command_line() if is_root else "",
        has_xl=adapters.xl.installed(),
        pciback_available=adapters.modules.available(),
        pciback_loaded=adapters.sysfs.pciback_loaded,
        pciback_at_boot=adapters.modules.loaded_at_boot(),
        pciback_built_in=adapters.modules.built_in(),
        initramfs_makers=adapters.modules.initramfs_makers(),
        boot=adapters.journal.boot,
        silences=tuple(questions.silences),
    )
    return found if memory is None else _with_memory(found, memory)


def _uses(
    adapters: Adapters,
    network: Network,
    domains: tuple[Domain, ...] | None,
    backend: tuple[BackendDevice, ...] | None,
) -> dict[Address, list[HostUse]]:
    if domains is not None and backend is not None:
        return find_uses(adapters, network, domains)
    return adapters.uses.find(network, disks={}, interfaces={})


def _brief(address: Address, uses: list[HostUse]) -> DeviceUses:
    """The uses without the names of folders and files."""
    return DeviceUses(
        address=address,
        uses=tuple(
            replace(use, chain=tuple(_PATH.sub("/...", link) for link in use.chain)) for use in uses
        ),
    )


def _owners(adapters: Adapters, backend: tuple[BackendDevice, ...]) -> tuple[XenOwner, ...]:
    given = {one.address for one in backend}
    try:
        idle = [one.address for one in adapters.sysfs.devices() if one.on_pciback]
    except CedeError:
        return ()
    found = ((at, adapters.hypervisor.in_guest(at)) for at in idle if at not in given)
    return tuple(XenOwner(address=at, in_guest=owned) for at, owned in found if owned is not None)


def _with_memory(answers: HostAnswers, memory: JournalState) -> HostAnswers:
    """Add what the journal says, without who asked and why."""
    return replace(
        answers,
        memory=True,
        unfinished=memory.unfinished,
        held=memory.held,
        pauses=tuple(replace(pause, requester="", reason="") for pause in memory.pauses),
        last_applied=memory.last_applied,
        origins=memory.each_origin,
    )
