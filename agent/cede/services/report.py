"""The report of a host: what its daemons, programs and device nodes answer, and its files, without whose they are.

It is a tree that `--root` reads, to be asked again where there is no host.
"""

from __future__ import annotations

import io
import re
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from cede.errors import CedeError
from cede.model.host_answers import (
    ANSWERS,
    KERNEL_LOG,
    LOG_HEAD,
    XEN_LOG,
    DeviceUses,
    HostAnswers,
    NoAnswer,
    XenOwner,
)
from cede.model.journal_state import JournalState
from cede.model.network import Network
from cede.model.serialization import dumps
from cede.model.served import Served
from cede.services.observe import LIBVIRT_SECONDS, find_uses
from cede.services.replacements import Replacements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO

    from cede.adapters.ports import Adapters
    from cede.model.domain import Domain
    from cede.model.host_answers import Asked, ReportFile
    from cede.model.inventory import BackendDevice
    from cede.model.pci import Address, HostUse

FOLDER = "cede-report"
_FILE_MODE, _FOLDER_MODE = 0o600, 0o700
_MAX_LINES = 20000
_MADE = 946684800  # 2000; when the report was made is nobody's concern, and tar warns of 1970
_READ_ME = """\
This is a host as cede reads it: `cede doctor --root cede-report` examines it anywhere.
Names of hosts and guests, serial numbers, UUIDs, MAC and IP addresses have been replaced, each by the same in all
files; passwords have been removed. Read the files before you send them: names that only you know as such may be left,
in comments, in paths or in the kernel's log.
"""
_T = TypeVar("_T")
_PATH = re.compile(r"(?<![A-Za-z0-9_.-])/(?!dev/)[^\s,;()]+")


def write_report(
    stream: BinaryIO,
    adapters: Adapters,
    files: Iterable[ReportFile],
    names: Iterable[str],
    *,
    is_root: bool,
) -> int:
    """Write the tar, compressed, and return how many files it has; `names` are those of this host."""
    answers = collect_answers(adapters, is_root=is_root)
    replacements = Replacements()
    for name in names:
        replacements.learn_name(name, "host")
    for domain in answers.domains or ():
        replacements.learn_name(domain.name, "guest")
    texts = {ANSWERS: dumps(answers, indent=1), **dict(_logs(adapters, is_root=is_root))}
    collected = list(files)
    for file in collected:
        replacements.learn(f"{file.path}\n{file.serial or ''}")
        if file.serial is None:
            replacements.learn(file.content.decode("utf-8", "replace"))
    for said in texts.values():
        replacements.learn(said)
    with tarfile.open(fileobj=stream, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        _add(tar, "READ-ME", _READ_ME.encode())
        for name, said in texts.items():
            _add(tar, name, replacements.replaced(said).encode())
        for file in collected:
            _add_file(tar, file, replacements)
    return len(texts) + len(collected)


def _logs(adapters: Adapters, *, is_root: bool) -> Iterator[tuple[str, str]]:
    kernel = adapters.kernel_log.lines()
    if kernel is not None:
        lines = (
            f"[{line.seconds_since_boot:12.6f}] {line.text}\n" for line in kernel[-_MAX_LINES:]
        )
        yield KERNEL_LOG, f"{LOG_HEAD}\n{''.join(lines)}"
    xen = adapters.hypervisor.log() if is_root else None
    if xen is not None:
        yield XEN_LOG, "\n".join([LOG_HEAD, *xen.splitlines()[-_MAX_LINES:]]) + "\n"


def _add_file(tar: tarfile.TarFile, file: ReportFile, replacements: Replacements) -> None:
    path = replacements.replaced(file.path)
    if file.link:
        entry = _entry(path, _FILE_MODE)
        entry.type, entry.linkname = tarfile.SYMTYPE, replacements.replaced(file.link)
        tar.addfile(entry)
    elif path.endswith("/"):
        entry = _entry(path, _FOLDER_MODE)
        entry.type = tarfile.DIRTYPE
        tar.addfile(entry)
    elif path.endswith("/config") and path.startswith("sys/"):
        content = file.content
        if file.serial is not None:
            content = replacements.replaced_serial(content, file.serial)
        _add(tar, path, content)
    else:
        _add(tar, path, replacements.replaced(file.content.decode("utf-8", "replace")).encode())


def _add(tar: tarfile.TarFile, path: str, content: bytes) -> None:
    entry = _entry(path, _FILE_MODE)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def _entry(path: str, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(f"{FOLDER}/{path}")
    entry.mode, entry.mtime = mode, _MADE
    return entry


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
    return adapters.uses.find(network, Served())


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
