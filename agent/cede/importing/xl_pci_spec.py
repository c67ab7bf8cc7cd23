"""One entry of an xl.cfg's `pci = [...]`: which device, and with which options.

`[DDDD:]BB:SS.F[@VSLOT],KEY=VALUE,...` or all of it as KEY=VALUE, with `*` for every function of a slot. What xl
overlooks, such as the rest of `bdf=01:00.0x` or the blank in `01: 00.0`, is refused here as a typing error.
Source: xl-pci-configuration(5); tools/libs/util/libxlu_pci.c (xlu_pci_parse_spec_string) of Xen 4.17 and 4.20.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from cede.model.pci import Address

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
