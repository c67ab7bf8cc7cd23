"""xl's configuration files, read as data: text in, the guest's name and PCI devices out, or all diagnostics at once.

xl's language looks like Python but is not. This module reads the same language and never runs anything.
Sources: tools/libs/util/libxlu_cfg_l.l, libxlu_cfg_y.y and libxlu_pci.c (Xen), tools/xl/xl_parse.c, xl.cfg(5),
xl-pci-configuration(5).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from cede.errors import UsageError
from cede.importing.xl_cfg_syntax import Atom, Listed, Value, read_settings
from cede.importing.xl_pci_spec import FLAGS, RDM_POLICIES, PciSpec, read_spec, truth
from cede.model.domain import GuestKind
from cede.model.policy import Place
from cede.policy.diagnostics import Diagnostics, quoted

_KINDS = {
    **{kind.value: kind for kind in GuestKind},
    "generic": GuestKind.PV,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class XlDevice:
    """One entry of `pci = [...]`, with what the guest's own settings add to it."""

    spec: PciSpec
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """What an xl.cfg says of a guest and its PCI devices; `notes` are oddities that harm nothing."""

    name: str
    kind: GuestKind
    devices: tuple[XlDevice, ...]
    notes: tuple[str, ...] = ()


def guest_of(settings: Mapping[str, Value], file: str, diagnostics: Diagnostics) -> Guest | None:
    """Return the guest that the settings describe; None if it has no name. Adds diagnostics for what xl refuses."""
    notes: list[str] = []
    name, kind = _atom(settings, "name", diagnostics), _kind(settings, diagnostics)
    if "name" not in settings:
        start = Place(file=file, line=1, column=1)
        diagnostics.add(start, "no-name", "the guest has no `name`")
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
        field: truth(atom.text)
        for name, field in FLAGS.items()
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
        lacking: dict[str, bool] = {n: v for n, v in for_all.items() if getattr(spec, n) is None}
        yield XlDevice(
            spec=replace(spec, **lacking, rdm_policy=spec.rdm_policy or policy),  # type: ignore[arg-type]
            place=entry.place,
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
        remedy = "fix these lines, or comment them out; nothing was written"
        raise diagnostics.error(UsageError, remedy)
    return guest
