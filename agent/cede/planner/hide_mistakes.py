"""What is wrong with what xen-pciback is told to hide at boot: the kernel itself says next to nothing of it.

One wrong bracket and the module doesn't load; a right one in the wrong place, and the host loses what it lives on.
`cede boot` and the doctor both ask `configured`; what a policy adds to it is in `mistakes`.
Source: drivers/xen/xen-pciback/pci_stub.c (pcistub_init), modprobe.d(5), and those of each place in hide_settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cede.errors import FailureKind
from cede.model.hide_settings import INITRAMFS_LISTS
from cede.model.pci import PCIBACK, UNTOLD
from cede.model.pciback_options import SPELLING, Hide, Ignored
from cede.model.plan import Sentence
from cede.planner.guards import guards
from cede.util.text import one_line

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from cede.model.inventory import Inventory
    from cede.model.pci import Address, Device, HostUse
    from cede.model.plan import Refused
    from cede.model.policy import Policy, Protect

_EARLY = (
    *INITRAMFS_LISTS,
    "/etc/dracut.conf",
    "rd.driver.pre=",
)
_MAX_QUOTE = 60
_STUB = "Linux, drivers/xen/xen-pciback/pci_stub.c (pcistub_init)"
_PLACE = "an address is a place, and a card that was moved or added shifts the bus numbers"
_RIGHT_PLACES = (
    "the kernel's command line (xen-pciback.hide=), or options xen-pciback in modprobe.d"
)
# why nothing comes of it, what to do, and who says so
_IGNORED = {
    Ignored.OLD_NAME: (
        "the module is called xen-pciback since Linux 3.1, and pciback is no module's name",
        "use the name xen-pciback instead",
        "Linux, drivers/xen/xen-pciback/Makefile",
    ),
    Ignored.XEN: (
        "Xen's command line is not Linux's: dom0's kernel never reads what stands there",
        "move hide= to the kernel's command line (GRUB_CMDLINE_LINUX in /etc/default/grub, not GRUB_CMDLINE_XEN)",
        "Xen, docs/misc/xen-command-line.pandoc",
    ),
    Ignored.QUBES: (
        "only Qubes' initramfs reads rd.qubes.hide_pci, and this host's has no such part",
        "use xen-pciback.hide= instead, with each device in brackets",
        "Qubes OS, qubes-core-admin-linux, dracut/modules.d/90qubes-pciback/qubes-pciback.sh",
    ),
    Ignored.WHOLE_LINE: (
        "systemd takes the whole line for a module's name, finds none, and loads nothing",
        "leave xen-pciback alone on its line, and write options xen-pciback hide=... into /etc/modprobe.d/",
        "modules-load.d(5); systemd, src/modules-load/modules-load.c (apply_file)",
    ),
    Ignored.UNREAD_FOLDER: (
        "mkinitramfs reads /etc/initramfs-tools/modules and /usr/share/initramfs-tools/modules.d, and no such folder",
        "move the line to /etc/initramfs-tools/modules, then update-initramfs -u -k all",
        "initramfs-tools, mkinitramfs",
    ),
    Ignored.BUILT_IN: (
        "xen-pciback is built into this kernel, so modprobe never gives it anything",
        "use xen-pciback.hide= on the kernel's command line instead",
        "Linux, Documentation/admin-guide/kernel-parameters.rst",
    ),
    Ignored.REPLACED: (
        "in an entry with Xen, GRUB_CMDLINE_LINUX_XEN_REPLACE takes the place of this variable",
        "move hide= to GRUB_CMDLINE_LINUX_XEN_REPLACE (or _REPLACE_DEFAULT), then update-grub",
        "GRUB, util/grub.d/20_linux_xen.in",
    ),
    Ignored.LOADED_BEFORE: (
        "a line that is read before loads xen-pciback already, and a module that is loaded takes no arguments",
        f"keep hide= in one place: {_RIGHT_PLACES}",
        "modprobe(8); initramfs-tools, scripts/functions (load_modules)",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class BootConfiguration:
    """What the host is told at boot today.

    `settings` are all that set `hide=`, in the order in which the last one counts, and then those of the next boot;
    `loaders` what has xen-pciback loaded, files and words of the kernel's command line; `old_names` what would load it
    by a name that no module has; `disabled` are files that have modprobe do something else instead; `makers` make the
    initramfs; `built_in` says that the module is part of the kernel, None that neither that nor what is in the
    initramfs is told.
    """

    settings: tuple[Hide, ...] = ()
    loaders: tuple[str, ...] = ()
    old_names: tuple[str, ...] = ()
    disabled: tuple[str, ...] = ()
    makers: tuple[str, ...] = ()
    built_in: bool | None = False

    @property
    def early(self) -> bool:
        """Whether xen-pciback can be there before udev loads drivers."""
        return bool(self.built_in) or any(loader.startswith(_EARLY) for loader in self.loaders)

    @property
    def broken(self) -> bool:
        """Whether the kernel would refuse the module for one of the settings."""
        return any(one.bad and one.ignored is None and not one.by_qubes for one in self.settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """Something wrong with what the host is told at boot.

    `name` is its kind, for scripts; `place` is the file, or the kernel's command line; `what` says of the place what is
    wrong, as `can't be read ...`; `why` is why that matters, or how it comes; `remedy` is what the administrator can
    do; `source` is the file or document that says so; `entry` is the bracket or the device that it is about, empty if
    all of the place is.
    """

    name: Literal[
        "ignored", "pending", "old-name", "disabled", "malformed", "trailing", "twice", "no-device", "guarded",
        "not-assigned", "refused", "overruled", "late", "ineffective", "missing",
    ]  # fmt: skip
    place: Sentence
    what: Sentence
    why: Sentence
    remedy: Sentence
    source: Sentence = _STUB
    entry: str = ""
    kind: FailureKind = FailureKind.OUT_OF_SYNC


def configured(
    configuration: BootConfiguration,
    inventory: Inventory,
    *,
    protect: Iterable[Protect] = (),
    wanted: Collection[Address] = (),
) -> Iterator[Mistake]:
    """Return all that is wrong without regard to what is assigned; `wanted` may be hidden though the host uses them."""
    yield from _not_loading(configuration)
    for setting in configuration.settings:
        if setting.ignored is not None:
            yield _ignored(setting, setting.ignored)
        if setting.pending:
            yield _pending(setting)
        yield from _unreadable(setting)
        yield from _entries(setting, inventory)
        if setting.ignored is None:
            for device in _covered(setting, inventory):
                if device.address not in wanted:
                    yield from _guarded(device, setting, protect)
    yield from _without_effect(configuration)


def mistakes(
    wanted: tuple[Address, ...],
    refused: Mapping[Address, Refused],
    policy: Policy,
    inventory: Inventory,
    configuration: BootConfiguration,
) -> Iterator[Mistake]:
    """Return all that is wrong where `wanted` are the addresses that may be hidden.

    `refused` are the answers of the rules for those that are assigned, and may not be.
    """
    yield from configured(configuration, inventory, protect=policy.protect, wanted=wanted)
    heeded = [setting for setting in configuration.settings if setting.ignored is None]
    for setting in heeded:
        for device in _covered(setting, inventory):
            if device.address not in wanted and not _uses(device, policy.protect):
                yield _unassigned(device.address, setting, refused.get(device.address))
    present = [setting for setting in heeded if not setting.pending]
    if present:
        yield from _against_policy(present, wanted, inventory)


def _not_loading(configuration: BootConfiguration) -> Iterator[Mistake]:
    for place in configuration.old_names:
        yield Mistake(
            name="old-name",
            place=one_line(place),
            what="loads a module called pciback, which no kernel since 3.1 has",
            why="`modprobe pciback` fails; what stands behind it after && never happens",
            remedy="write xen-pciback instead",
            source="Linux, drivers/xen/xen-pciback/Makefile",
        )
    for place in configuration.disabled:
        yield Mistake(
            name="disabled",
            place=one_line(place),
            what="has modprobe run another command instead of loading xen-pciback",
            why="whoever asks for the module, it is not loaded, and modprobe reports no error",
            remedy="remove the line install xen-pciback",
            source="modprobe.d(5)",
        )


def why_ignored(ignored: Ignored) -> str:
    """Return why nothing comes of such a `hide=`."""
    return _IGNORED[ignored][0]


def _ignored(setting: Hide, ignored: Ignored) -> Mistake:
    why, remedy, source = _IGNORED[ignored]
    place = one_line(setting.place)
    return Mistake(
        name="ignored", place=place, what="has no effect", why=why, remedy=remedy, source=source
    )  # fmt: skip


def _pending(setting: Hide) -> Mistake:
    return Mistake(
        name="pending",
        place=one_line(setting.place),
        what="is not what this host was started with",
        why="GRUB's menu has it once update-grub has run, and the kernel from the next boot on",
        remedy="update-grub, then restart the host; or take the word out of the file again",
        source="GRUB, util/grub.d/20_linux_xen.in",
    )


def _covered(setting: Hide, inventory: Inventory) -> list[Device]:
    return [
        device
        for device in inventory.devices
        if any(entry.covers(device.address) for entry in setting.hidden)
    ]


def _unreadable(setting: Hide) -> Iterator[Mistake]:
    place = one_line(setting.place)
    if setting.bad and setting.by_qubes:
        yield Mistake(
            name="malformed",
            place=place,
            what=f"can't be read from {_short(setting.bad)} on",
            why="Qubes' initramfs stops the boot at what is no address, and cede can't tell what a path means",
            remedy="write addresses like 01:00.0 with commas between them, and nothing else",
            source=_IGNORED[Ignored.QUBES][2],
            kind=FailureKind.FAILED,
        )
    elif setting.bad:
        yield Mistake(
            name="malformed",
            place=place,
            what=f"can't be read from {_short(setting.bad)} on",
            why="the kernel refuses a module with such a value: `modprobe xen-pciback` fails with Invalid argument",
            remedy=f"correct hide=: no commas, and {SPELLING}",
            kind=FailureKind.FAILED if setting.ignored is None else FailureKind.OUT_OF_SYNC,
        )
    if setting.trailing:
        yield Mistake(
            name="trailing",
            place=place,
            what=f"ends at the blank before {_short(setting.trailing)}",
            why="the kernel takes each word for a parameter of its own, which it doesn't know and ignores",
            remedy="write all brackets without a blank between them",
            source="Linux, lib/cmdline.c (next_arg), kernel/params.c (parse_args)",
        )


def _entries(setting: Hide, inventory: Inventory) -> Iterator[Mistake]:
    """Entries that name nothing, or what another one names, too."""
    place = one_line(setting.place)
    for entry in setting.hidden:
        covered = [d for d in inventory.devices if entry.covers(d.address)]
        if inventory.devices and not covered:
            yield Mistake(
                name="no-device",
                place=place,
                what=f"names no device of this host with {one_line(entry.text)}",
                why=_PLACE,
                remedy="`cede devices` lists the devices; correct the entry, or remove it",
                entry=one_line(entry.text),
            )
    named = setting.addresses([device.address for device in inventory.devices])
    for address in named:
        if sum(entry.covers(address) for entry in setting.hidden) > 1:
            yield Mistake(
                name="twice",
                place=place,
                what=f"names {address} more than once",
                why="whoever removes one of the entries believes the device is back in dom0",
                remedy="keep one entry",
                entry=str(address),
            )


def _uses(device: Device, protect: Iterable[Protect]) -> list[HostUse]:
    """What the host uses the device for; a use that can't be told is none that could be named."""
    return [use for use in guards(device, protect) if use.guard != UNTOLD]


def _guarded(device: Device, setting: Hide, protect: Iterable[Protect]) -> Iterator[Mistake]:
    uses = _uses(device, protect)
    if uses:
        yield Mistake(
            name="guarded",
            place=one_line(setting.place),
            what=f"hides {device.address} from the host, which uses the device: {'; '.join(map(str, uses))}",
            why="from the next boot on, no driver of dom0's has the device",
            remedy=f"remove ({device.address}) before the next boot",
            entry=str(device.address),
            kind=FailureKind.UNSAFE,
        )


def _unassigned(address: Address, setting: Hide, refused: Refused | None) -> Mistake:
    place = one_line(setting.place)
    if refused is not None:
        return Mistake(
            name="refused",
            place=place,
            what=f"hides {address}, whose assignment cede refuses ({refused.rule})",
            why=refused.reason,
            remedy=f"{refused.remedy}; until then, remove ({address})",
            source=f"cede, the rule {refused.rule}",
            entry=str(address),
            kind=refused.kind,
        )
    return Mistake(
        name="not-assigned",
        place=place,
        what=f"hides {address} from dom0, and the policy does not assign the device",
        why="neither dom0 nor a guest has the device",
        remedy=f"remove ({address}), or assign the device (`cede import --from-hide` proposes a policy)",
        entry=str(address),
    )


def _without_effect(configuration: BootConfiguration) -> Iterator[Mistake]:
    heeded = [
        one
        for one in configuration.settings
        if one.ignored is None and not one.by_qubes and not one.pending
    ]
    if not heeded:
        return
    ruling = heeded[-1]
    place = one_line(ruling.place)
    if len(heeded) > 1:
        yield Mistake(
            name="overruled",
            place=", ".join(dict.fromkeys(one_line(one.place) for one in heeded[:-1])),
            what=f"is overruled: hide= is set {len(heeded)} times, of which the last counts: {place}",
            why="modprobe passes modprobe.d first, then the kernel's command line, then arguments behind the name",
            remedy="keep one setting",
            source="kmod, libkmod/libkmod-module.c (kmod_module_probe_insert_module)",
        )
    if ruling.hidden and not configuration.early and configuration.built_in is not None:
        yield Mistake(
            name="late",
            place=place,
            what="comes too late: xen-pciback is neither built in nor named for the initramfs",
            why="other drivers may bind the devices first",
            remedy="add xen-pciback to the initramfs (`cede boot --print` says how), or leave that to `cede boot`",
        )


def _against_policy(
    heeded: Sequence[Hide], wanted: tuple[Address, ...], inventory: Inventory
) -> Iterator[Mistake]:
    """What is hidden by the setting that counts, and by Qubes' word, against what may be hidden."""
    own = [setting for setting in heeded if not setting.by_qubes]
    ruling = [*own[-1:], *(setting for setting in heeded if setting.by_qubes)]
    place = ", ".join(one_line(setting.place) for setting in ruling)
    hidden = {device.address for setting in ruling for device in _covered(setting, inventory)}
    for address in sorted(hidden & set(wanted)):
        device = inventory.device(address)
        if device is None or device.driver in {None, PCIBACK}:
            continue
        yield Mistake(
            name="ineffective",
            place=place,
            what=f"names {address}, which is bound to {device.driver} all the same",
            why="the setting is younger than the initramfs or the boot, or the other driver came first",
            remedy="rebuild the initramfs and restart the host; see dom0's kernel log (dmesg) for xen_pciback",
            entry=str(address),
        )
    if len(ruling) > len(own[-1:]):  # Qubes hides all network cards, too, whatever its word says
        hidden |= {device.address for device in inventory.devices if device.on_pciback}
    missing = [str(address) for address in wanted if address not in hidden]
    if missing and not any(setting.bad for setting in ruling):
        yield Mistake(
            name="missing",
            place=place,
            what=f"lacks {', '.join(missing)}, which the policy assigns",
            why="dom0's own driver binds the device first",
            remedy="add the device to hide=, or leave that to `cede boot`",
        )


def _short(text: str) -> str:
    return f'"{one_line(text, _MAX_QUOTE)}"'
