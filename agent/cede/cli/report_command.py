"""`cede report`: this host in a file, for somebody who is to find out what is wrong with it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cede.adapters.linux.report_files import report_files
from cede.adapters.runtime import LibvirtAccess
from cede.cli.session import Caller
from cede.commands.exit_status import Exit
from cede.commands.screen import echo, echo_json
from cede.errors import UsageError
from cede.model.serialization import dumps
from cede.services.report import FOLDER, collect_answers, write_report
from cede.util.kernel_files import text

if TYPE_CHECKING:
    from collections.abc import Iterator

_MODE = 0o600
_LOCAL = re.compile(r"localhost|localdomain|ip6-|broadcasthost")


@click.command("report")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", default=f"{FOLDER}.tar.gz",
    show_default=True, help="Write the report to FILE, which must not exist.",
)  # fmt: skip
@click.option(
    "--answers", is_flag=True,
    help="Print only what no file tells, as JSON: what libvirt, xenstore, Xen and the kernel answered. With all names,"
    " for sos, which replaces them by `sos clean`.",
)  # fmt: skip
@click.pass_obj
def report_command(caller: Caller, output: Path, answers: bool) -> int:
    """Write what cede reads of this host to a tar, for `--root` on another machine; changes nothing.

    Names of hosts and guests, serial numbers, UUIDs, MAC and IP addresses are replaced, each by the same in all files,
    and passwords are removed. Read the files before you send them. Without root the report has less.
    """
    runtime = caller.runtime()
    names = tuple(_names(runtime.paths.root))
    with runtime.adapters(LibvirtAccess.OPTIONAL) as adapters:
        if answers:
            echo_json(dumps(collect_answers(adapters, is_root=runtime.is_root), indent=1))
            return Exit.OK
        files = report_files(runtime.paths.root)
        try:
            descriptor = os.open(
                output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _MODE
            )
            with os.fdopen(descriptor, "wb") as stream:
                count = write_report(stream, adapters, files, names, is_root=runtime.is_root)
        except FileExistsError as error:
            raise UsageError(
                f"{output} exists and was not changed",
                name="file-exists",
                remedy="name another file with -o",
            ) from error
        except OSError as error:
            raise UsageError(
                f"{output} can't be written: {error.strerror}", name="file-unwritable"
            ) from error
    less = "" if runtime.is_root else "; without root it has less"
    echo(f"{output}: {count} files{less}. Read them before you send them:")
    echo(f"  tar -xzf {output} && cede doctor --root {FOLDER}")
    return Exit.OK


def _names(root: Path) -> Iterator[str]:
    """Yield what this host and its neighbours are called (hostname(5), hosts(5), resolv.conf(5))."""
    for path in ("etc/hostname", "proc/sys/kernel/hostname", "proc/sys/kernel/domainname"):
        name = text(root / path)
        if name and not _LOCAL.match(name) and name != "(none)":
            yield from dict.fromkeys((name, *name.partition(".")[::2]))
    lines = [line.partition("#")[0].split() for line in text(root / "etc/hosts").splitlines()]
    lines += [
        line.split()
        for line in text(root / "etc/resolv.conf").splitlines()
        if line.startswith(("search", "domain"))
    ]
    for words in lines:
        yield from (word for word in words[1:] if not _LOCAL.match(word))
