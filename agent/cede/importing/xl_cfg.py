"""xl's configuration files, read as data: text in, the guest's name and PCI devices out, or all diagnostics at once.

An entry of `pci = [...]` is `[DDDD:]BB:SS.F[@VSLOT],KEY=VALUE,...` or all of it as KEY=VALUE, with `*` for every
function of a slot. What xl overlooks, such as the rest of `bdf=01:00.0x` or the blank in `01: 00.0`, is refused here
as a typing error.
Source: xl.cfg(5), xl-pci-configuration(5); tools/libs/util/libxlu_pci.c (xlu_pci_parse_spec_string) of Xen 4.17 and
4.20.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from cede.errors import UsageError
from cede.importing import inexpressible
from cede.importing.xl_cfg_syntax import Atom, Listed, Value, read_settings
from cede.model.domain import GuestKind
from cede.model.pci import Address
from cede.model.policy import Place
from cede.policy.diagnostics import Diagnostics, quoted

_HEX = "[0-9a-fA-F]{1,8}"
_BDF = re.compile(
    rf"(?:(?P<segment>{_HEX}):)?(?P<bus>{_HEX}):(?P<slot>{_HEX})\.(?P<function>{_HEX}|\*)"
)
_VSLOT = re.compile(r"[0-9a-fA-F]{1,8}")
_MAX_SLOT = 0x1F
# xl's word -> the field
FLAGS = {
    "permissive": "permissive",
    "msitranslate": "msitranslate",
    "seize": "take_from_driver",
    "power_mgmt": "power_mgmt",
}
RDM_POLICIES = ("strict", "relaxed")
# C's atoi: the number at the beginning of a text, else 0.
_NUMBER = re.compile(r"\s*([+-]?[0-9]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class PciSpec:
    """What an entry says; None is not given.

    `every_function` means all functions of the slot of `address`, whose own function is then 0. A `name` instead of an
    address is one that `xl pci-assignable-add` gave to a device.
    """

    address: Address | None = None
    every_function: bool = False
    name: str | None = None
    vslot: int | None = None
    permissive: bool | None = None
    msitranslate: bool | None = None
    take_from_driver: bool | None = None
    power_mgmt: bool | None = None
    rdm_policy: str | None = None


def truth(text: str) -> bool:
    """Return what xl makes of a value that should be 0 or 1: a text without a number at its beginning is 0."""
    match = _NUMBER.match(text)
    return match is not None and int(match[1][:12]) != 0


def read_spec(text: str) -> PciSpec:
    """Parse the entry in `text`. Raises ValueError, with what would be right, where xl refuses the entry."""
    spec, rest = PciSpec(), text
    positional = _BDF.match(text)
    if positional is not None:
        spec, rest = _at(spec, positional), text[positional.end() :]
        if rest.startswith("@"):
            vslot, comma, rest = rest[1:].partition(",")
            spec, rest = replace(spec, vslot=_vslot(vslot)), comma + rest
        if rest and not rest.startswith(","):
            raise ValueError(f"after the address comes `@SLOT` or `,KEY=VALUE`, not {rest[:20]!a}")
        rest = rest[1:]
    for said in rest.removesuffix(",").split(",") if rest else ():
        spec = _option(spec, said)
    if (spec.address is None) is (spec.name is None):
        raise ValueError(
            "neither an address like 0000:01:00.0 nor a name"
            if spec.name is None
            else "both an address and a name, of which xl takes only one"
        )
    return spec


def _option(spec: PciSpec, said: str) -> PciSpec:
    key, is_set, value = said.partition("=")
    if not is_set:
        raise ValueError(f"{said[:40]!a} is neither an address like 0000:01:00.0 nor KEY=VALUE")
    if key == "bdf":
        match = _BDF.fullmatch(value)
        if match is None:
            raise ValueError(f"bdf={value[:40]!a} is no address like 0000:01:00.0")
        return _at(spec, match)
    if key == "vslot":
        return replace(spec, vslot=_vslot(value))
    if key == "name":
        return replace(spec, name=value)
    if key == "rdm_policy":
        if value not in RDM_POLICIES:
            raise ValueError(f"rdm_policy is `strict` or `relaxed`, not {value[:40]!a}")
        return replace(spec, rdm_policy=value)
    if key in FLAGS:
        flag: dict[str, bool] = {FLAGS[key]: truth(value)}
        return replace(spec, **flag)  # type: ignore[arg-type]
    known = ", ".join(("bdf", "vslot", "name", *FLAGS, "rdm_policy"))
    raise ValueError(f"unknown option {key[:40]!a}; xl knows {known}")


def _at(spec: PciSpec, found: re.Match[str]) -> PciSpec:
    every = found["function"] == "*"
    segment, bus, slot, function = (
        0 if part is None or part == "*" else int(part, 16)
        for part in found.group("segment", "bus", "slot", "function")
    )
    return replace(spec, address=Address(segment, bus, slot, function), every_function=every)


def _vslot(text: str) -> int:
    if _VSLOT.fullmatch(text) is None or int(text, 16) > _MAX_SLOT:
        raise ValueError(f"the slot in the guest is a hex number up to 1f, not {text[:20]!a}")
    return int(text, 16)


_KINDS = {
    **{kind.value: kind for kind in GuestKind},
    "generic": GuestKind.PV,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class XlDevice:
    """One entry of `pci = [...]`, with what the guest's own settings add to it: the options in `of_guest`."""

    spec: PciSpec
    place: Place
    of_guest: frozenset[str] = frozenset()

    def called(self, option: str) -> str:
        """Return the word for an option where the file sets it: the entry's own or the guest's."""
        if option not in self.of_guest:
            return option
        return "rdm policy" if option == "rdm_policy" else f"pci_{option}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """What an xl.cfg says of a guest and its PCI devices; `notes` are oddities that harm nothing."""

    name: str
    kind: GuestKind
    devices: tuple[XlDevice, ...]
    notes: tuple[str, ...] = ()


def guest_of(settings: Mapping[str, Value], file: str, diagnostics: Diagnostics) -> Guest | None:
    """Return the guest that the settings describe; None if it has no name. Adds diagnostics for what xl refuses."""
    notes = list(inexpressible.of_guest(settings))
    name, kind = _atom(settings, "name", diagnostics), _kind(settings, diagnostics)
    if "name" not in settings or (name is not None and not name.text):
        place = Place(file=file, line=1, column=1) if name is None else name.place
        diagnostics.add(place, "no-name", "the guest has no `name`")
    devices = tuple(_devices(settings, diagnostics, notes))
    host_map = _atom(settings, "e820_host", diagnostics)
    if devices and kind is GuestKind.PV and host_map is not None and not truth(host_map.text):
        notes.append(
            f"{host_map.place}: e820_host is off; `cede plan` switches it on, or a BAR can collide with guest memory"
        )
    if devices and kind is GuestKind.PVH:
        notes.append(f"{file}: a PVH guest, to which Xen gives no PCI devices")
    if name is None:
        return None
    return Guest(name=name.text, kind=kind, devices=devices, notes=tuple(notes))


def _atom(settings: Mapping[str, Value], name: str, diagnostics: Diagnostics) -> Atom | None:
    value = settings.get(name)
    if isinstance(value, Listed):
        diagnostics.add(
            value.place, "list-for-value", f"{name} is a list, where xl expects a single value"
        )
        return None
    return value


def _kind(settings: Mapping[str, Value], diagnostics: Diagnostics) -> GuestKind:
    """Return the kind by `type`, else by the older `builder`, else PV (xl.cfg(5))."""
    kinds = (_atom(settings, name, diagnostics) for name in ("type", "builder"))
    atom = next((kind for kind in kinds if kind is not None), None)
    if atom is None:
        return GuestKind.PV
    if atom.text not in _KINDS:
        text = f"{quoted(atom.text)} is not a type of guest: pv, pvh or hvm"
        diagnostics.add(atom.place, "unknown-kind", text)
    return _KINDS.get(atom.text, GuestKind.PV)


def _devices(
    settings: Mapping[str, Value], diagnostics: Diagnostics, notes: list[str]
) -> Iterator[XlDevice]:
    for_all = {
        # the guest's settings hold for each device that has no own
        name: truth(atom.text)
        for name in FLAGS
        if (atom := _atom(settings, f"pci_{name}", diagnostics)) is not None
    }
    reserved = _atom(settings, "rdm", diagnostics)
    policy = _rdm_policy(reserved, diagnostics) if reserved is not None else None
    for entry in _entries(settings.get("pci"), diagnostics, notes):
        try:
            spec = read_spec(entry.text)
        except ValueError as error:
            diagnostics.add(
                entry.place, "no-pci-device", f"pci device {quoted(entry.text)}: {error}"
            )
            continue
        lacking = {name for name in for_all if getattr(spec, FLAGS[name]) is None}
        added: dict[str, bool] = {FLAGS[name]: for_all[name] for name in lacking}
        if policy is not None and spec.rdm_policy is None:
            spec, lacking = replace(spec, rdm_policy=policy), lacking | {"rdm_policy"}
        yield XlDevice(
            spec=replace(spec, **added),  # type: ignore[arg-type]
            place=entry.place,
            of_guest=frozenset(lacking),
        )


def _entries(value: Value | None, diagnostics: Diagnostics, notes: list[str]) -> Sequence[Atom]:
    if isinstance(value, Atom):
        notes.append(
            f"{value.place}: pci is a single value, which xl ignores; read as a list of one"
        )
        return (value,)
    items = value.items if value is not None else ()
    for item in items:
        if isinstance(item, Listed):
            diagnostics.add(item.place, "list-for-value", "a list in the list of pci devices")
    return [item for item in items if isinstance(item, Atom)]


def _rdm_policy(said: Atom, diagnostics: Diagnostics) -> str | None:
    """The policy in `rdm = "strategy=host,policy=strict"` (xl.cfg(5)); None if `rdm` has no policy."""
    found = None
    for part in said.text.split(","):
        key, _, value = part.partition("=")
        if key == "policy" and value in RDM_POLICIES:
            found = value
        elif (key, value) != ("strategy", "host"):
            text = f"rdm is `strategy=host,policy=strict` or `relaxed`, not {quoted(part)}"
            diagnostics.add(said.place, "unknown-rdm", text)
    return found


MAX_BYTES = 256 * 1024


def parse(content: bytes, file: str) -> Guest:
    """Parse an xl.cfg; `file` is its name in places and diagnostics.

    Raises UsageError, and nothing else, with a line `file:line:column: what` for each mistake.
    """
    if len(content) > MAX_BYTES:
        raise UsageError(
            f"{file}: larger than {MAX_BYTES} bytes, which no xl.cfg is", name="too-large"
        )
    diagnostics = Diagnostics((file,))
    settings = read_settings(content.decode("utf-8", "replace"), file, diagnostics)
    guest = guest_of(settings, file, diagnostics)
    if diagnostics or guest is None:
        remedy = "fix these lines, or comment them out, and import the file again"
        raise diagnostics.error(UsageError, remedy)
    return guest
