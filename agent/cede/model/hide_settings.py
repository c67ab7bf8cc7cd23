"""Every `hide=` of a host, wherever people put it, and which one counts.

modprobe gives the module what modprobe.d says, then what the kernel's command line says, then its own arguments; of
several values the kernel keeps the last. A module is loaded once: arguments of a later line come too late, and what is
built in hears the kernel's command line alone.
Sources: kmod, libkmod/libkmod-config.c (kmod_config_new), libkmod-module.c (kmod_module_probe_insert_module);
initramfs-tools, mkinitramfs and scripts/functions (load_modules); systemd, src/modules-load/modules-load.c
(apply_file); qubes-core-admin-linux, dracut/modules.d/90qubes-pciback/qubes-pciback.sh.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cede.model.pciback_options import (
    MODULE,
    OLD_NAME,
    Hide,
    Ignored,
    hides,
    is_pciback,
    parameters,
    read,
    read_qubes,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

INITRAMFS_LISTS = ("/etc/initramfs-tools/modules", "/usr/share/initramfs-tools/modules.d/")
UNREAD_LISTS = "/etc/initramfs-tools/modules.d/"
_KERNEL = "on the kernel's command line"
_XEN = "on Xen's command line"
_QUBES = "rd.qubes.hide_pci"
LOADERS = frozenset({"modules-load", "modules_load", "rd.driver.pre"})
_NAMES = frozenset({MODULE, OLD_NAME})
_SEPARATORS = frozenset(";&|()<>\n")

Line = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """Something that has modprobe load the module: a line of a list of modules, or a command in modprobe.d.

    `unread` is why nobody heeds the arguments there, None if modprobe gets them.
    """

    file: str
    module: str
    arguments: str
    unread: Ignored | None = None


def settings(
    command_line: str,
    options: Iterable[Line],
    *,
    lists: Iterable[Line] = (),
    xen_command_line: str = "",
    built_in: bool | None = False,
    qubes: bool = False,
) -> tuple[Hide, ...]:
    """Return every `hide=`, in the order in which the last one counts of those that are not ignored.

    `options` are modprobe's lines about the module as (file, line), `lists` the lines of lists of modules that name it,
    in the order in which they are read; `qubes` tells that Qubes' initramfs is installed.
    """
    options, lists = tuple(options), tuple(lists)
    return (
        *_of_xen(xen_command_line),
        *_of_options(options, built_in=built_in),
        *_of_command_line(command_line, qubes=qubes),
        *_of_arguments(options, lists, built_in=built_in),
    )


def _of_words(text: str, place: str, ignored: Ignored | None) -> Iterator[Hide]:
    for _, value, trailing in hides(text, {"hide"}):
        yield read(value, place, trailing=trailing, ignored=ignored)


def _of_options(options: Iterable[Line], *, built_in: bool | None) -> Iterator[Hide]:
    for file, line in options:
        directive, module, rest = _three(line)
        if directive == "options" and _dashed(module) in _NAMES:
            late = Ignored.BUILT_IN if built_in else None
            ignored = late if is_pciback(module) else Ignored.OLD_NAME
            yield from _of_words(rest, f"hide= in {file}", ignored)


def _of_command_line(command_line: str, *, qubes: bool) -> Iterator[Hide]:
    for name, value, trailing in hides(command_line, {"xen_pciback.hide", "pciback.hide"}):
        ignored = None if is_pciback(name.partition(".")[0]) else Ignored.OLD_NAME
        yield read(value, f"{name}= {_KERNEL}", trailing=trailing, ignored=ignored)
    for _, value, _ in hides(command_line, {_QUBES}):
        yield read_qubes(value, f"{_QUBES}= {_KERNEL}", ignored=None if qubes else Ignored.QUBES)


def _of_xen(command_line: str) -> Iterator[Hide]:
    for name, value, trailing in hides(command_line, {"xen_pciback.hide", "pciback.hide"}):
        yield read(value, f"{name}= {_XEN}", trailing=trailing, ignored=Ignored.XEN)
    for _, value, _ in hides(command_line, {_QUBES}):
        yield read_qubes(value, f"{_QUBES}= {_XEN}", ignored=Ignored.XEN)


def _of_arguments(
    options: Iterable[Line], lists: Iterable[Line], *, built_in: bool | None
) -> Iterator[Hide]:
    """What stands behind the module's name where it is loaded: modprobe hears the first that loads it."""
    late = Ignored.BUILT_IN if built_in else None
    aliased = _aliased(options)
    for loading in _loadings(options, lists):
        ignored = loading.unread or late
        if not is_pciback(loading.module) and not aliased:
            ignored = Ignored.OLD_NAME
        yield from _of_words(loading.arguments, f"hide= in {loading.file}", ignored)
        if ignored is None:
            late = Ignored.LOADED_BEFORE


def old_names(command_line: str, options: Iterable[Line], lists: Iterable[Line]) -> tuple[str, ...]:
    """Return what would load a module by the name `pciback`, which no kernel since 3.1 has.

    Nothing is wrong with that where modprobe.d has an alias of that name.
    """
    options = tuple(options)
    if _aliased(options):
        return ()
    loading = [one.file for one in _loadings(options, lists) if one.module == OLD_NAME]
    depending = [
        file
        for file, line in options
        if line.split()[:1] == ["softdep"] and OLD_NAME in line.split()[2:]
    ]
    words = [
        f"{name}= {_KERNEL}"
        for name, value in parameters(command_line)
        if name in LOADERS and OLD_NAME in (value or "").split(",")
    ]
    return tuple(dict.fromkeys((*loading, *depending, *words)))


def _aliased(options: Iterable[Line]) -> bool:
    return any(_three(line)[:2] == ("alias", OLD_NAME) for _, line in options)


def disabled(options: Iterable[Line]) -> tuple[str, ...]:
    """Return the files that have modprobe run another command instead of loading xen-pciback (modprobe.d(5))."""
    return tuple(
        dict.fromkeys(
            file
            for file, line in options
            if line.split()[:1] == ["install"]
            and is_pciback(_three(line)[1])
            and not any(word in line for word in ("modprobe", "insmod"))
        )
    )


def _loadings(options: Iterable[Line], lists: Iterable[Line]) -> Iterator[Loading]:
    """In the order in which they load: the initramfs' lists, then commands as drivers come, then the system's lists."""
    listed = [_listed(file, line) for file, line in lists]
    early = [one for one in listed if one.unread is None]
    yield from early
    for file, line in options:
        directive, _, command = _three(line)
        if directive == "install":
            yield from _of_command(file, command)
    yield from (one for one in listed if one not in early)


def _listed(file: str, line: str) -> Loading:
    module, _, arguments = line.replace("\t", " ").partition(" ")
    unread: Ignored | None = Ignored.WHOLE_LINE
    if file.startswith(UNREAD_LISTS):
        unread = Ignored.UNREAD_FOLDER
    elif file.startswith(INITRAMFS_LISTS):
        unread = None
    return Loading(file=file, module=module, arguments=arguments, unread=unread)


def _of_command(file: str, command: str) -> Iterator[Loading]:
    """Each `modprobe xen-pciback ...` in a shell's command; none if the shell couldn't read it either."""
    shell = shlex.shlex(command, posix=True, punctuation_chars=True)
    shell.commenters = ""
    try:
        words = [*shell, ";"]
    except ValueError:
        return
    simple: list[str] = []
    for word in words:
        if set(word) <= _SEPARATORS:
            program, arguments = simple[:1], [one for one in simple[1:] if not one.startswith("-")]
            if program and program[0].rpartition("/")[2] == "modprobe" and arguments:
                module, *further = arguments
                if _dashed(module) in _NAMES:
                    said = " ".join(f'"{one}"' if " " in one else one for one in further)
                    yield Loading(file=file, module=module, arguments=said)
            simple = []
        else:
            simple.append(word)


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _three(line: str) -> tuple[str, str, str]:
    """The directive, the module and the rest of a line of modprobe.d."""
    words = line.split(None, 2)
    directive, module, rest = (*words, "", "", "")[:3]
    return directive, module, rest
