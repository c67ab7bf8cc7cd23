"""`cede import`: propose a policy from xl's files, libvirt's domains, `hide=`, or what is on pciback now."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cede.adapters.linux.pci_ids import PciIds
from cede.adapters.runtime import LibvirtAccess
from cede.cli.options import json_option, names_of, policy_option
from cede.cli.session import Caller
from cede.commands.exit_status import Exit
from cede.commands.failure import show_error
from cede.commands.screen import echo, echo_json, echo_lines
from cede.commands.session import path_of
from cede.errors import CedeError, Diagnostic, PolicyError, UsageError
from cede.importing import xl_cfg
from cede.importing.imported_policy import ImportedPolicy, import_policy, policy_text
from cede.importing.sources import (
    ON_PCIBACK,
    SourceContent,
    of_domains,
    of_guest,
    of_hide,
    of_pciback,
)
from cede.model import pciback_options
from cede.model.inventory import Inventory
from cede.model.plan import Sentence
from cede.model.policy import Policy
from cede.model.serialization import dumps
from cede.policy import policy_files
from cede.policy.policy_files import host_policy_beside
from cede.services.boot import read_boot_configuration
from cede.services.observe import observe_host

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cede.adapters.runtime import Runtime

_MODE = 0o644
_HELP = """Propose a policy from xl's configuration FILEs, hostdevs in libvirt's domains, or hidden devices.

\b
cede import /etc/xen/*.cfg -o /etc/cede/policy.yaml   what xl's guests have
cede import --from-domains                            hostdevs that cede is to adopt
cede import --from-domain ace2x1 ace2x1.cfg           one domain, and one file
cede import --from-hide                               what xen-pciback.hide= names
cede import --hide '(01:00.0)(02:00.*)'               the same from a text
cede import --from-pciback                            what is on pciback now, whoever put it there

Changes nothing and runs no FILE. Each device gets the identity that it has on this host, and a comment on what libvirt
can't express. What the policy of this host already names is left out and listed. If one of several FILEs
is wrong, the others are imported, and the exit status is 1. Only --from-domains and --from-domain need libvirt.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOutput(ImportedPolicy):
    """What `cede import --json` prints; `policy` is the proposed policy as YAML, with comments.

    `errors` are what is wrong with files that were left out: the others are imported all the same.
    """

    exit: Exit
    policy: Sentence
    errors: tuple[CedeError, ...]


@click.command("import", help=_HELP)
@click.option(
    "--from-domains", "every_domain", is_flag=True, help="Take the hostdevs of all libvirt domains."
)
@click.option(
    "--from-domain", "domains", metavar="DOMAIN", multiple=True, shell_complete=names_of("domains"),
    help="Take the hostdevs of this domain, by name or UUID; may be given several times.",
)  # fmt: skip
@click.option(
    "--from-hide", "from_hide", is_flag=True,
    help="Take the devices that `hide=` names: on the kernel's command line, in modprobe.d and in lists of modules.",
)  # fmt: skip
@click.option(
    "--from-pciback", "from_pciback", is_flag=True,
    help="Take the devices that are on pciback now: by `hide=`, a script, a unit, or by hand.",
)  # fmt: skip
@click.option("--hide", "hide", metavar="TEXT", help="Take the devices in this value of `hide=`.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="PATH",
    help="Write the policy to PATH instead of standard output.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Overwrite PATH if it exists.")
@policy_option
@json_option
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path(path_type=Path))
@click.pass_obj
def import_command(
    caller: Caller,
    every_domain: bool,
    domains: tuple[str, ...],
    from_hide: bool,
    from_pciback: bool,
    hide: str | None,
    output: Path | None,
    force: bool,
    policy: str,
    as_json: bool,
    files: tuple[Path, ...],
) -> int:
    """Find, propose, check, write."""
    hides = from_hide or hide is not None
    if not (every_domain or domains or hides or from_pciback or files):
        raise UsageError(
            "nothing to import from",
            name="missing-argument",
            remedy="name an xl.cfg, or give --from-domains or --from-hide; `cede import --help` has examples",
        )
    asks_libvirt, runtime = every_domain or bool(domains), caller.runtime()
    with runtime.adapters(
        LibvirtAccess.REQUIRED if asks_libvirt else LibvirtAccess.OFFLINE
    ) as adapters:
        devices = adapters.sysfs.devices
        inventory = observe_host(adapters) if asks_libvirt else Inventory(devices=devices())
        hidden = read_boot_configuration(adapters).settings if from_hide else ()
    of_files, errors = _of_files(files, inventory)
    if errors and not (of_files or asks_libvirt or hides or from_pciback):
        raise _together(errors)
    sources = [str(file) for file in of_files]
    contents = [*of_files.values()]
    if asks_libvirt:
        sources.append("libvirt's domains" if every_domain else f"the domains {', '.join(domains)}")
        contents.append(of_domains(inventory, () if every_domain else _known(domains, inventory)))
    if from_hide and not hidden:
        sources.append("xen-pciback's hide=, which is not set")
    if hide is not None:
        hidden = (*hidden, pciback_options.read(hide, "--hide"))
    sources += [one.place for one in hidden]
    contents += [of_hide(one, inventory) for one in hidden]
    if from_pciback:
        sources.append(ON_PCIBACK)
        contents.append(of_pciback(inventory))
    existing = host_policy_beside(output, path_of(policy), runtime)
    imported = import_policy(contents, inventory, existing)
    text = policy_text(imported, sources, _called(runtime, imported))
    _check(text)
    if output is not None:
        _write(output, text, force=force)
    _show(imported, text, output, errors, as_json=as_json)
    return Exit.FAILED if errors else Exit.OK


def _of_files(
    files: Sequence[Path], inventory: Inventory
) -> tuple[dict[Path, SourceContent], list[UsageError]]:
    """Return the content of each file that is right, and what is wrong with the others.

    A file is wrong, too, if the policy made of it alone would be: it must not spoil that of the others.
    """
    contents: dict[Path, SourceContent] = {}
    errors: list[UsageError] = []
    for file in dict.fromkeys(files):
        try:
            content = of_guest(xl_cfg.parse(_content(file), str(file)), inventory)
            _check(
                policy_text(import_policy([content], inventory, Policy()), [str(file)], {}), file
            )
        except UsageError as error:
            errors.append(error)
        else:
            contents[file] = content
    return contents, errors


def _together(errors: Sequence[UsageError]) -> UsageError:
    """Return one error for all files, of which none is right."""
    first, *others = errors
    if not others:
        return first
    return UsageError(
        "\n".join(error.message for error in errors),
        name=first.name,
        remedy=first.remedy,
        diagnostics=tuple(said for error in errors for said in _diagnostics(error)),
    )


def _diagnostics(error: UsageError) -> tuple[Diagnostic, ...]:
    place, _, text = error.message.partition(" ")
    return error.diagnostics or (Diagnostic(place=place, name=error.name, text=text),)


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(xl_cfg.MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"{file} can't be read: {error.strerror}", name="file-unreadable"
        ) from error


def _known(domains: Sequence[str], inventory: Inventory) -> list[str]:
    found = [inventory.domain(name) for name in domains]
    missing = [name for name, domain in zip(domains, found, strict=True) if domain is None]
    if missing:
        raise UsageError(
            f"libvirt knows no domain {', '.join(missing)}",
            name="no-such-domain",
            remedy="`virsh list --all` lists the domains",
        )
    return [domain.name for domain in found if domain is not None]


def _called(runtime: Runtime, imported: ImportedPolicy) -> dict[str, str]:
    ids = PciIds(runtime.paths.pci_ids)
    return {
        device.name: str(ids.names(device.identity))
        for device in imported.devices
        if device.identity is not None
    }


def _check(text: str, file: Path | None = None) -> None:
    """Raise UsageError for a policy that the other commands would not read; `file` is what it is made of, if one."""
    try:
        policy_files.parse(text, "the proposed policy")
    except PolicyError as error:
        raise UsageError(
            f"{f'{file}: ' if file else ''}the proposed policy would be wrong: {error.message}",
            name="no-policy",
            remedy="a domain needs a name; correct the file or the domain that is imported",
        ) from error


def _write(path: Path, text: str, *, force: bool) -> None:
    """Write a new file, or replace an old one atomically. Raises UsageError if that fails.

    Makes the folder if only that is missing: a host without a policy has no /etc/cede.
    """
    target = path.with_name(f".{path.name}.new") if force else path
    try:
        path.parent.mkdir(exist_ok=True)
        if force:
            target.unlink(missing_ok=True)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        if force:
            target.replace(path)
    except FileExistsError as error:
        raise UsageError(
            f"{path} exists and was not changed",
            name="file-exists",
            remedy=f"name another file, or give --force to overwrite {path}",
        ) from error
    except OSError as error:
        raise UsageError(
            f"{path} can't be written: {error.strerror}", name="file-unwritable"
        ) from error


def _show(
    imported: ImportedPolicy,
    text: str,
    output: Path | None,
    errors: Sequence[UsageError],
    *,
    as_json: bool,
) -> None:
    for error in errors:
        show_error(error)
    if as_json:
        proposed = ImportOutput(
            exit=Exit.FAILED if errors else Exit.OK,
            errors=tuple(errors),
            devices=imported.devices,
            assignments=imported.assignments,
            notes=imported.notes,
            policy=text,
        )
        echo_json(dumps(proposed))
        return
    if output is None:
        echo_lines(text.removesuffix("\n").split("\n"))
        return
    count = f"{len(imported.devices)} devices, {len(imported.assignments)} assignments"
    echo(f"{output}: {count}; review the file, then `cede plan -f {output}`")
    said = [f"left out: {note}" for note in imported.notes]
    said += [f"{device.name}: {note}" for device in imported.devices for note in device.notes]
    echo_lines(said)
