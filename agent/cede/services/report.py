"""The report of a host: its files and answers, without whose they are, as a tree that `--root` reads."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

from cede.model.host_answers import ANSWERS, KERNEL_LOG, LOG_HEAD, XEN_LOG
from cede.model.serialization import dumps
from cede.services.answers import collect_answers
from cede.services.replacements import Replacements

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

    from cede.adapters.ports import Adapters
    from cede.model.host_answers import ReportFile

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
