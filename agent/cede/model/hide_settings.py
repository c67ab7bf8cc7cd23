"""Every `hide=` of a host, wherever people put it, and which one counts.

modprobe gives the module what modprobe.d says, then what the kernel's command line says, then its own arguments; of
several values the kernel keeps the last. A module is loaded once: arguments of a later line come too late, and what is
built in hears the kernel's command line alone.
Sources: kmod, libkmod/libkmod-config.c (kmod_config_new), libkmod-module.c (kmod_module_probe_insert_module);
initramfs-tools, mkinitramfs and scripts/functions (load_modules); systemd, src/modules-load/modules-load.c
(apply_file); Debian's kmod, debian/kmod.init; GRUB,
util/grub.d/20_linux_xen.in; qubes-core-admin-linux, dracut/modules.d/90qubes-pciback/qubes-pciback.sh.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from fnmatch import fnmatchcase
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
_ON_A_LINE = frozenset({"xen_pciback.hide", "pciback.hide"})
LOADERS = frozenset({"modules-load", "modules_load", "rd.driver.pre"})
_NAMES = frozenset({MODULE, OLD_NAME})
_SEPARATORS = frozenset(";&|()<>\n")

# on the left what takes the place of what is on the right, in an entry of GRUB's menu with Xen
_REPLACING = {
    "GRUB_CMDLINE_LINUX": "GRUB_CMDLINE_LINUX_XEN_REPLACE",
    "GRUB_CMDLINE_LINUX_DEFAULT": "GRUB_CMDLINE_LINUX_XEN_REPLACE_DEFAULT",
}
_OF_XEN = frozenset({"GRUB_CMDLINE_XEN", "GRUB_CMDLINE_XEN_DEFAULT"})

Line = tuple[str, str]
Variable = tuple[str, str, str]


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
    sysvinit: bool = False,
    grub: Iterable[Variable] = (),
) -> tuple[Hide, ...]:
    """Return every `hide=`, in the order in which the last one counts of those that are not ignored.

    `options` are modprobe's lines about the module as (file, line), `lists` the lines of lists of modules that name it,
    in the order in which they are read; `qubes` tells that Qubes' initramfs is installed, `sysvinit` that it reads the
    system's lists. `grub` are the variables (file, name, value) of which GRUB makes the next boot's command lines:
    what this boot's have too is told once.
    """
    options, lists = tuple(options), tuple(lists)
    by_alias = _loads_by_alias(command_line, options, lists, sysvinit=sysvinit)
    return (
        *_of_xen(xen_command_line),
        *_of_options(options, built_in=built_in, by_alias=by_alias),
        *_of_command_line(command_line, qubes=qubes, by_alias=by_alias),
        *_of_arguments(options, lists, built_in=built_in, sysvinit=sysvinit),
        *_of_grub(tuple(grub), command_line, xen_command_line, qubes=qubes, by_alias=by_alias),
    )


def _of_words(text: str, place: str, ignored: Ignored | None) -> Iterator[Hide]:
    for _, value, trailing in hides(text, {"hide"}):
        yield read(value, place, trailing=trailing, ignored=ignored)


def _of_options(
    options: Iterable[Line], *, built_in: bool | None, by_alias: bool
) -> Iterator[Hide]:
    for file, line in options:
        directive, module, rest = _three(line)
        if directive == "options" and _dashed(module) in _NAMES:
            late = Ignored.BUILT_IN if built_in else None
            ignored = late if is_pciback(module) or by_alias else Ignored.OLD_NAME
            yield from _of_words(rest, f"hide= in {file}", ignored)


def _of_command_line(command_line: str, *, qubes: bool, by_alias: bool) -> Iterator[Hide]:
    for name, value, trailing in hides(command_line, _ON_A_LINE):
        ignored = None if is_pciback(name.partition(".")[0]) or by_alias else Ignored.OLD_NAME
        yield read(value, f"{name}= {_KERNEL}", trailing=trailing, ignored=ignored)
    for _, value, _ in hides(command_line, {_QUBES}):
        yield read_qubes(value, f"{_QUBES}= {_KERNEL}", ignored=None if qubes else Ignored.QUBES)


def _of_xen(command_line: str) -> Iterator[Hide]:
    for name, value, trailing in hides(command_line, _ON_A_LINE):
        yield read(value, f"{name}= {_XEN}", trailing=trailing, ignored=Ignored.XEN)
    for _, value, _ in hides(command_line, {_QUBES}):
        yield read_qubes(value, f"{_QUBES}= {_XEN}", ignored=Ignored.XEN)


def _of_grub(
    grub: tuple[Variable, ...], command_line: str, xen: str, *, qubes: bool, by_alias: bool
) -> Iterator[Hide]:
    """What GRUB's files have for the next boot, and this boot's command lines haven't."""
    values = {name: value for _, name, value in grub}
    for file, name, value in grub:
        place = f"of {name} in {file}"
        now = set(hides(xen if name in _OF_XEN else command_line, {*_ON_A_LINE, _QUBES}))
        replaced = _REPLACING.get(name, "") in values
        for found in hides(value, {*_ON_A_LINE, _QUBES}):
            if found in now:
                continue
            word, said, trailing = found
            ignored = Ignored.REPLACED if replaced else None
            if word.replace("-", "_") == _QUBES:
                if not qubes:
                    yield read_qubes(said, f"{word}= {place}", ignored=ignored or Ignored.QUBES)
                continue  # its initramfs has read this boot's
            if ignored is None and name in _OF_XEN:
                ignored = Ignored.XEN
            if ignored is None and not is_pciback(word.partition(".")[0]) and not by_alias:
                ignored = Ignored.OLD_NAME
            yield read(
                said,
                f"{word}= {place}",
                trailing=trailing,
                ignored=ignored,
                pending=ignored is None,
            )


def _of_arguments(
    options: Iterable[Line], lists: Iterable[Line], *, built_in: bool | None, sysvinit: bool
) -> Iterator[Hide]:
    """What stands behind the module's name where it is loaded: modprobe hears the first that loads it."""
    late = Ignored.BUILT_IN if built_in else None
    aliased = _aliased(options)
    for loading in _loadings(options, lists, sysvinit=sysvinit):
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
    loadings = _loadings(options, lists, sysvinit=False)
    loading = [one.file for one in loadings if one.module == OLD_NAME]
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
    """Whether modprobe takes the old name for the module's: by an alias, which may be a pattern (modprobe.d(5))."""
    aliases = (_three(line) for _, line in options)
    return any(
        directive == "alias" and fnmatchcase(OLD_NAME, _dashed(pattern)) and is_pciback(module)
        for directive, pattern, module in aliases
    )


def _loads_by_alias(
    command_line: str, options: tuple[Line, ...], lists: tuple[Line, ...], *, sysvinit: bool
) -> bool:
    """Whether something loads the module by an alias of the old name: then what is set by that name counts, too.

    Source: kmod, libkmod/libkmod-module.c (kmod_module_get_options).
    """
    if not _aliased(options):
        return False
    loadings = _loadings(options, lists, sysvinit=sysvinit)
    words = parameters(command_line)
    return any(one.module == OLD_NAME and one.unread is None for one in loadings) or any(
        name in LOADERS and OLD_NAME in (value or "").split(",") for name, value in words
    )


def disabled(options: Iterable[Line]) -> tuple[str, ...]:
    """Return the files that have modprobe do something else instead of loading xen-pciback (modprobe.d(5))."""
    return tuple(dict.fromkeys(file for file, line in options if _instead(*_three(line))))


def _instead(directive: str, module: str, rest: str) -> bool:
    """Whether the line is another command to run, or makes the module's name that of another one."""
    if not is_pciback(module):
        return False
    if directive == "alias":
        return not is_pciback(rest.strip())
    loads = any(word in rest for word in ("modprobe", "insmod"))
    return directive == "install" and not loads


def _loadings(
    options: Iterable[Line], lists: Iterable[Line], *, sysvinit: bool
) -> Iterator[Loading]:
    """In the order in which they load: the initramfs' lists, then commands as drivers come, then the system's lists."""
    listed = [_listed(file, line, sysvinit=sysvinit) for file, line in lists]
    early = [one for one in listed if one.file.startswith(INITRAMFS_LISTS)]
    yield from early
    for file, line in options:
        directive, _, command = _three(line)
        if directive == "install":
            yield from _of_command(file, command)
    yield from (one for one in listed if one not in early)


def _listed(file: str, line: str, *, sysvinit: bool) -> Loading:
    module, _, arguments = line.replace("\t", " ").partition(" ")
    unread: Ignored | None = None if sysvinit or not arguments.strip() else Ignored.WHOLE_LINE
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
