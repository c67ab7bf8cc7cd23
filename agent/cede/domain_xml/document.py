"""libvirt's XML <-> values, without I/O.

Domain XML is edited in its text: what cede does not know (comments, unknown elements, unmanaged hostdevs) stays byte
for byte. The XML is not trusted, so the parser resolves no entities and opens no network.

Source: https://libvirt.org/formatdomain.html#host-device-assignment and https://libvirt.org/drvxen.html
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from functools import lru_cache
from typing import TypeVar

from lxml import etree

from cede.domain_xml import metadata, sources
from cede.domain_xml.xml_text import XmlText, attribute, nested, parsed
from cede.errors import PermanentError, unexpected
from cede.model.domain import (
    FEATURES,
    MAX_DOMID,
    Domain,
    Feature,
    GuestKind,
    Hostdev,
    Ownership,
    name_of_alias,
)
from cede.model.pci import Address
from cede.util.text import c_number, number, one_line

_T = TypeVar("_T")
_MAX_WHY = 200
_TEXTS = 128  # some 10 kB each; what stands in them is asked of libvirt at each look

HOSTDEV = "./devices/hostdev[@mode='subsystem'][@type='pci']"
_NIC_HOSTDEV = "./devices/interface[@type='hostdev']"


def _text(tree: etree._Element, path: str) -> str:
    return (tree.findtext(path) or "").strip()


def _hostdev_address(hostdev: etree._Element) -> Address | None:
    source = hostdev.find("./source/address")
    if source is None:
        return None
    if source.get("type", "pci") != "pci":
        return None
    segment, bus, slot, function = (
        c_number(source.get(part, "0")) for part in ("domain", "bus", "slot", "function")
    )
    if segment is None or bus is None or slot is None or function is None:
        return None
    try:
        return Address(segment, bus, slot, function)
    except ValueError:
        return None


def _hostdev(hostdev: etree._Element) -> Hostdev | None:
    address = _hostdev_address(hostdev)
    if address is None:
        return None
    alias = hostdev.find("./alias")
    source = hostdev.find("./source")
    return Hostdev(
        address=address,
        alias=None if alias is None else alias.get("name"),
        managed=hostdev.get("managed") == "yes",
        write_filtering=source is None or source.get("writeFiltering") != "no",
    )


def hostdevs(domain_xml: str) -> tuple[Hostdev, ...]:
    """Return the PCI hostdevs of a domain's XML in document order, then those that are written as interfaces."""
    return _hostdevs(parsed(domain_xml))


def _hostdevs(tree: etree._Element) -> tuple[Hostdev, ...]:
    found = (
        _hostdev(element) for path in (HOSTDEV, _NIC_HOSTDEV) for element in tree.iterfind(path)
    )
    return tuple(h for h in found if h is not None)


def _kind(tree: etree._Element) -> GuestKind:
    machine = tree.find("./os/type")
    name = "" if machine is None else machine.get("machine", "")
    if name == "xenpvh":
        return GuestKind.PVH
    if name == "xenpv" or (machine is not None and machine.text == "linux"):
        return GuestKind.PV
    return GuestKind.HVM


def _passthrough(tree: etree._Element) -> bool:
    """Whether libxl allows PCI devices in this domain, which it decides when it creates the domain.

    libvirt passes the feature on, and a hostdev that is present at the start has the same effect
    (libxl_conf.c, libxlMakeDomCreateInfo and libxl_create.c).
    """
    feature = _feature(tree, "passthrough")
    return bool(_hostdevs(tree)) if feature is None else feature


def _feature(tree: etree._Element, name: str) -> bool | None:
    feature = tree.find(f"./features/xen/{name}")
    return None if feature is None else feature.get("state") == "on"


def _switched(tree: etree._Element, *, on: bool) -> tuple[Feature, ...]:
    return tuple(name for name in FEATURES if _feature(tree, name) is on)


def _kibibytes(tree: etree._Element, path: str) -> int:
    """Return the number, which libvirt always gives in KiB; 0 if there is none."""
    return number(_text(tree, path)) or 0


def _domid(live: etree._Element) -> int | None:
    """Return Xen's number of a running domain; None for a domain that has ended, which has none."""
    text = live.get("id")
    domid = None if text is None else number(text, most=MAX_DOMID)
    if text is not None and domid is None:
        raise PermanentError(
            f"libvirt sent a domain whose number is none: {text[:20]!a}", name="unreadable-xml"
        )
    return domid


def domain(live_xml: str | None, config_xml: str | None, *, paused: bool = False) -> Domain:
    """Build a domain from its running and its persistent XML (None: not running, not persistent).

    Raises PermanentError if both are None, one is malformed, or a PCI device in it can't be told.
    """
    return _built(live_xml, config_xml, paused)


@lru_cache(maxsize=_TEXTS)
def _built(live_xml: str | None, config_xml: str | None, paused: bool) -> Domain:
    """What `domain` returns: of the same texts the same value, so that each is parsed once."""
    live = None if live_xml is None else parsed(live_xml)
    config = None if config_xml is None else parsed(config_xml)
    tree = config if live is None else live
    if tree is None:
        raise PermanentError("a domain without any XML", name="no-xml")
    trees = [one for one in (live, config) if one is not None]
    for one in trees:
        _refuse_unreadable_hostdevs(one)
    domid = None if live is None else _domid(live)
    return Domain(
        name=_text(tree, "./name"),
        uuid=_text(tree, "./uuid"),
        kind=_kind(tree),
        domid=domid,
        paused=paused,
        persistent=config is not None,
        passthrough=_passthrough(tree),
        e820_host=_feature(tree, "e820_host") is True,
        features=() if config is None else _switched(config, on=True),
        features_off=() if config is None else _switched(config, on=False),
        memory=_kibibytes(tree if config is None else config, "./memory"),
        current_memory=_kibibytes(tree if config is None else config, "./currentMemory"),
        live=() if live is None or domid is None else _hostdevs(live),
        config=() if config is None else _hostdevs(config),
        ownership=metadata.read(tree if config is None else config),
        host_disks=sources.disks(trees),
        host_interfaces=sources.interfaces(trees),
        host_devices=sources.devices(trees),
        unknown_volumes=sources.volumes(trees),
    )


def domain_or_remains(
    live_xml: str | None,
    config_xml: str | None,
    *,
    name: str,
    uuid: str,
    domid: int | None,
    paused: bool = False,
    why: str = "",
) -> Domain:
    """Build a domain as `domain` does; of one that can't be read what can be made out, by what else libvirt says of it.

    `why` is why libvirt told nothing, or not all, of it. Never raises: one domain must not hide the others.
    """
    try:
        if not why:
            return domain(live_xml, config_xml, paused=paused)
    except PermanentError as error:
        why = error.message
    except Exception as fault:  # noqa: BLE001 - whatever its XML makes of cede
        why = unexpected(fault, f"reading the XML of {name}").message
    trees = [_made_out(xml) for xml in (live_xml, config_xml)]
    live, config = ((() if tree is None else _remains(tree, _hostdevs)) for tree in trees)
    both = [tree for tree in trees if tree is not None]
    return Domain(
        name=name,
        uuid=uuid,
        kind=GuestKind.HVM,
        domid=domid,
        paused=paused,
        persistent=config_xml is not None,
        live=live,
        config=config,
        ownership=tuple(note for tree in both for note in _remains(tree, metadata.read)),
        host_disks=sources.disks(both),
        host_interfaces=sources.interfaces(both),
        host_devices=sources.devices(both),
        unreadable=one_line(why, _MAX_WHY) or "libvirt doesn't say why",
    )


def _refuse_unreadable_hostdevs(tree: etree._Element) -> None:
    """Raise PermanentError if a PCI device of the domain has no address that can be read: it has some device."""
    for path in (HOSTDEV, _NIC_HOSTDEV):
        for element in tree.iterfind(path):
            source = element.find("./source/address")
            other = source is not None and source.get("type", "pci") != "pci"
            if not other and _hostdev_address(element) is None:
                raise PermanentError(
                    "a hostdev has no address that can be read", name="unreadable-xml"
                )


def _made_out(xml: str | None) -> etree._Element | None:
    """What a parser makes of XML that isn't well-formed; None if nothing."""
    if xml is None:
        return None
    recovering = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, recover=True
    )
    with suppress(etree.XMLSyntaxError, ValueError):
        found: etree._Element | None = etree.fromstring(xml.encode(errors="replace"), recovering)
        return found
    return None


def _remains(
    tree: etree._Element, read: Callable[[etree._Element], tuple[_T, ...]]
) -> tuple[_T, ...]:
    try:
        return read(tree)
    except Exception as fault:  # noqa: BLE001 - as above
        unexpected(fault, "reading what remains of a domain's XML")
        return ()


def console_terminal(domain_xml: str) -> str:
    """Return the pseudo terminal of a running domain's first console, empty if there is none."""
    console = parsed(domain_xml).find("devices/console")
    return "" if console is None else console.get("tty", "")


def new_hostdev(address: Address, alias: str, *, permissive: bool = False) -> str:
    """Return the `<hostdev>` that cede attaches, as libvirt prints it.

    managed='no': with 'yes' libvirt would return the device to its dom0 driver whenever the guest reboots.
    `permissive` lets the guest write all of the configuration space.
    """
    source = "source writeFiltering='no'" if permissive else "source"
    place = (
        f"<address domain='0x{address.segment:04x}' bus='0x{address.bus:02x}' "
        f"slot='0x{address.slot:02x}' function='0x{address.function:x}'/>"
    )
    return (
        "<hostdev mode='subsystem' type='pci' managed='no'>\n"
        f"      {nested([source], place, 3)}\n"
        f"      {_alias(alias)}\n"
        "    </hostdev>"
    )


def _alias(alias: str) -> str:
    return f"<alias name='{attribute(alias)}'/>"


def hostdev_as_shown(domain_xml: str, address: Address) -> str | None:
    """Return the `<hostdev>` element at `address` as the live XML shows it; None if there is none.

    A live detach needs exactly this: libvirt 11.3 leaks the device when `<driver name='xen'/>` is missing from it.
    """
    text = XmlText(domain_xml)
    found = _hostdev_at(text, address)
    return None if found is None else text.shown(found)


def _hostdev_at(text: XmlText, address: Address) -> etree._Element | None:
    found = (e for e in text.root.iterfind(HOSTDEV) if _hostdev_address(e) == address)
    return next(found, None)


def with_hostdev(
    domain_xml: str,
    address: Address,
    alias: str,
    *,
    permissive: bool = False,
    policy: str | None = None,
) -> str:
    """Add the hostdev after the last one; return the XML unchanged if the hostdev is present.

    With `policy`, also add the ownership metadata.
    """
    if _hostdev_at(XmlText(domain_xml), address) is not None:
        return domain_xml
    if policy is not None:
        domain_xml = _with_ownership(domain_xml, address, alias, policy)
    text, new = XmlText(domain_xml), new_hostdev(address, alias, permissive=permissive)
    present = text.root.findall(HOSTDEV)
    if present:
        return text.with_next(present[-1], new)
    return text.with_descendant(("devices",), new)


def _with_ownership(domain_xml: str, address: Address, alias: str, policy: str) -> str:
    ownership = Ownership(name=name_of_alias(alias, address), address=address, policy=policy)
    return metadata.added(domain_xml, ownership)


def without_hostdev(domain_xml: str, address: Address) -> str:
    """Remove the hostdev at `address` and its ownership metadata; return the XML unchanged if there is neither."""
    domain_xml = metadata.removed(domain_xml, address)
    while (found := _hostdev_at(text := XmlText(domain_xml), address)) is not None:
        domain_xml = text.without(found)
    return domain_xml


def adopted(domain_xml: str, address: Address, alias: str, policy: str) -> str:
    """Add cede's alias and ownership metadata to the unmanaged hostdev at `address`."""
    text = XmlText(domain_xml)
    hostdev = _hostdev_at(text, address)
    if hostdev is None:
        return domain_xml
    named = hostdev.find("./alias")
    if named is None:
        return _with_ownership(text.with_child(hostdev, _alias(alias)), address, alias, policy)
    return _with_ownership(text.with_attribute(named, "name", alias), address, alias, policy)


def with_features(domain_xml: str, features: Collection[str]) -> str:
    """Switch Xen features on (`passthrough`, `e820_host`); return the XML unchanged if all are on.

    Source: https://libvirt.org/formatdomain.html#hypervisor-features
    """
    for name in features:
        text = XmlText(domain_xml)
        if _feature(text.root, name) is True:
            continue
        present = text.root.find(f"./features/xen/{name}")
        if present is not None:
            domain_xml = text.with_attribute(present, "state", "on")
        else:
            new = f"<{name} state='on'/>"
            domain_xml = text.with_descendant(("features", "xen"), new, after=("os", "idmap"))
    return domain_xml


def without_features(domain_xml: str, features: Collection[str], off: Collection[str] = ()) -> str:
    """Remove these Xen features, but switch those of `off` off; return the XML unchanged if it has none of them."""
    for name in features:
        path = f"./features/xen/{name}"
        if name in off:
            text = XmlText(domain_xml)
            present = text.root.find(path)
            if present is not None:
                domain_xml = text.with_attribute(present, "state", "off")
            continue
        while (present := (text := XmlText(domain_xml)).root.find(path)) is not None:
            domain_xml = text.without(present)
    return domain_xml
