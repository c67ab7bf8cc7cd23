"""Every place where people put `hide=`, as files of a host: which one counts, and why the others don't."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cede.adapters.linux.kernel_modules import Modules
from cede.model.hide_settings import disabled, old_names, settings
from cede.model.pciback_options import Ignored

if TYPE_CHECKING:
    from pathlib import Path

    from cede.model.pciback_options import Hide

CONF, LINE = "etc/modprobe.d/x.conf", "proc/cmdline"
LIST, SHARED = "etc/initramfs-tools/modules", "usr/share/initramfs-tools/modules.d/x"
OPTIONS = "options xen-pciback hide=(01:00.0)\n"
WORD = "ro xen-pciback.hide=(02:00.0) quiet\n"
ARGUMENT = "loop\nxen-pciback hide=(03:00.0)\n"
BUILT_IN = "lib/modules/6.1/modules.builtin"
QUBES = "usr/lib/dracut/modules.d/90qubes-pciback/qubes-pciback.sh"

Files = dict[str, str]


def of_files(root: Path, files: Files, xen: str = "") -> tuple[Hide, ...]:
    for path, text in {"proc/sys/kernel/osrelease": "6.1\n", **files}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    modules = Modules(root)
    return settings(
        modules.kernel_command_line(), modules.options(), lists=modules.module_lists(), xen_command_line=xen,
        built_in=modules.built_in(), qubes=modules.qubes_initramfs(), sysvinit=modules.sysvinit(),
        grub=modules.next_command_lines(),
    )  # fmt: skip


def shown(found: tuple[Hide, ...]) -> list[tuple[str, Ignored | None]]:
    return [("".join(entry.text for entry in one.hidden), one.ignored) for one in found]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({CONF: OPTIONS, LINE: WORD}, [("(01:00.0)", None), ("(02:00.0)", None)]),
        (
            {CONF: OPTIONS, LINE: WORD, LIST: ARGUMENT},
            [("(01:00.0)", None), ("(02:00.0)", None), ("(03:00.0)", None)],
        ),
        ({SHARED: "xen_pciback\thide=(03:00.0)"}, [("(03:00.0)", None)]),
        (
            {LIST: ARGUMENT, SHARED: "xen-pciback hide=(04:00.0)"},
            [("(03:00.0)", None), ("(04:00.0)", Ignored.LOADED_BEFORE)],
        ),
        (
            {LIST: "xen-pciback\n", SHARED: ARGUMENT, CONF: OPTIONS},
            [("(01:00.0)", None), ("(03:00.0)", Ignored.LOADED_BEFORE)],
        ),
        ({LIST: "# xen-pciback hide=(03:00.0)\n"}, []),
        ({LIST: "xen-pciback # hide=(03:00.0)\n"}, [("(03:00.0)", None)]),
        ({"etc/initramfs-tools/modules.d/x": ARGUMENT}, [("(03:00.0)", Ignored.UNREAD_FOLDER)]),
        ({"etc/modules": ARGUMENT}, [("(03:00.0)", Ignored.WHOLE_LINE)]),
        ({"etc/modules-load.d/x.conf": ARGUMENT}, [("(03:00.0)", Ignored.WHOLE_LINE)]),
        ({"etc/modules-load.d/x.txt": ARGUMENT}, []),
        ({LIST: "pciback hide=(03:00.0)"}, [("(03:00.0)", Ignored.OLD_NAME)]),
        ({CONF: "options pciback hide=(01:00.0)"}, [("(01:00.0)", Ignored.OLD_NAME)]),
        ({CONF: "options xen_pciback permissive=1 hide=(01:00.0)"}, [("(01:00.0)", None)]),
        ({CONF: "options e1000e hide=(01:00.0)\n# options xen-pciback hide=(01:00.0)\n"}, []),
        ({LINE: "pciback.hide=(02:00.0)"}, [("(02:00.0)", Ignored.OLD_NAME)]),
        ({LINE: "hide=(02:00.0) my-xen-pciback.hide=(02:00.0)"}, []),
        ({LINE: "rd.qubes.hide_pci=02:00.0,03:00.0"}, [("02:00.003:00.0", Ignored.QUBES)]),
        ({LINE: "rd.qubes.hide_pci=02:00.0", QUBES: ""}, [("02:00.0", None)]),
        (
            {CONF: OPTIONS, LINE: WORD, LIST: ARGUMENT, BUILT_IN: "kernel/xen-pciback.ko\n"},
            [("(01:00.0)", Ignored.BUILT_IN), ("(02:00.0)", None), ("(03:00.0)", Ignored.BUILT_IN)],
        ),
        (
            {CONF: "install e1000e /sbin/modprobe xen-pciback 'hide=(01:00.0)'; /sbin/modprobe -i e1000e"},
            [("(01:00.0)", None)],
        ),
        (
            {CONF: "install e1000e modprobe xen-pciback 'hide=(01:00.0)'", LIST: "xen-pciback"},
            [("(01:00.0)", Ignored.LOADED_BEFORE)],
        ),
        ({CONF: "install e1000e modprobe pciback 'hide=(01:00.0)'"}, [("(01:00.0)", Ignored.OLD_NAME)]),
        ({CONF: "install e1000e echo '0000:01:00.0' > /sys/bus/pci/drivers/pciback/new_slot"}, []),
    ],
)  # fmt: skip
def test_each_place_is_read_and_the_last_that_is_heard_counts(
    tmp_path: Path, files: Files, expected: list[tuple[str, Ignored | None]]
) -> None:
    assert shown(of_files(tmp_path, files)) == expected


INITTAB = {"etc/inittab": "id:2:initdefault:\n"}
BY_ALIAS = "alias pciback xen-pciback\noptions pciback hide=(01:00.0)"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({**INITTAB, "etc/modules": ARGUMENT}, [("(03:00.0)", None)]),
        (
            {**INITTAB, "etc/modules-load.d/x.conf": ARGUMENT, "etc/modules": "xen-pciback hide=(04:00.0)"},
            [("(03:00.0)", None), ("(04:00.0)", Ignored.LOADED_BEFORE)],
        ),
        (
            {**INITTAB, "etc/modules": ARGUMENT, LIST: "xen-pciback"},
            [("(03:00.0)", Ignored.LOADED_BEFORE)],
        ),
        (
            {**INITTAB, "run/systemd/system/x": "", "etc/modules": ARGUMENT},
            [("(03:00.0)", Ignored.WHOLE_LINE)],
        ),
        ({CONF: BY_ALIAS, "etc/modules": "pciback"}, [("(01:00.0)", None)]),
        ({CONF: BY_ALIAS, LINE: "modules-load=pciback pciback.hide=(02:00.0)"},
         [("(01:00.0)", None), ("(02:00.0)", None)]),
        ({CONF: BY_ALIAS, "etc/modules": "xen-pciback"}, [("(01:00.0)", Ignored.OLD_NAME)]),
        ({CONF: BY_ALIAS.replace("xen-pciback", "xen_blkback"), "etc/modules": "pciback"},
         [("(01:00.0)", Ignored.OLD_NAME)]),
        ({CONF: "alias pci?ack xen_pciback", LIST: "pciback hide=(03:00.0)"}, [("(03:00.0)", None)]),
        ({CONF: "alias pciback off", LIST: "pciback hide=(03:00.0)"}, [("(03:00.0)", Ignored.OLD_NAME)]),
    ],
)  # fmt: skip
def test_sysvinit_passes_arguments_and_an_alias_makes_the_old_name_count(
    tmp_path: Path, files: Files, expected: list[tuple[str, Ignored | None]]
) -> None:
    assert shown(of_files(tmp_path, files)) == expected


def test_sysvinit_loads_the_module_of_a_line_with_arguments(tmp_path: Path) -> None:
    of_files(tmp_path, {"etc/modules": ARGUMENT})
    assert Modules(tmp_path).loaders() == ()
    of_files(tmp_path, INITTAB)
    assert Modules(tmp_path).loaders() == ("/etc/modules",)
    (tmp_path / "sbin").mkdir()
    (tmp_path / "sbin/init").symlink_to("/lib/systemd/systemd")
    assert Modules(tmp_path).loaders() == ()


GRUB, MORE = "etc/default/grub", "etc/default/grub.d/xen.cfg"
NEXT = "xen-pciback.hide=(05:00.0)"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({GRUB: f'GRUB_CMDLINE_LINUX="quiet {NEXT}"'}, [("(05:00.0)", None, True)]),
        ({GRUB: f"GRUB_CMDLINE_LINUX_DEFAULT='{NEXT}' # so"}, [("(05:00.0)", None, True)]),
        ({GRUB: f"export GRUB_CMDLINE_LINUX={NEXT.replace('(', chr(92) + '(').replace(')', chr(92) + ')')}"},
         [("(05:00.0)", None, True)]),
        ({GRUB: f'GRUB_CMDLINE_LINUX="{NEXT}"', LINE: f"ro {NEXT}"}, [("(05:00.0)", None, False)]),
        ({GRUB: f'GRUB_CMDLINE_LINUX="{NEXT}"', LINE: WORD}, [("(02:00.0)", None, False), ("(05:00.0)", None, True)]),
        ({GRUB: f'#GRUB_CMDLINE_LINUX="{NEXT}"\nGRUB_CMDLINE_LINUX=""'}, []),
        ({GRUB: f'GRUB_CMDLINE_LINUX="{NEXT}"', MORE: 'GRUB_CMDLINE_LINUX="quiet"'}, []),
        ({GRUB: 'GRUB_CMDLINE_LINUX="quiet"', MORE: f'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {NEXT}"'},
         [("(05:00.0)", None, True)]),
        ({GRUB: f'GRUB_CMDLINE_LINUX="{NEXT}"\nGRUB_CMDLINE_LINUX+=" quiet"'}, [("(05:00.0)", None, True)]),
        ({GRUB: f'GRUB_CMDLINE_LINUX="quiet \\\n{NEXT}"'}, [("(05:00.0)", None, True)]),
        ({GRUB: f'GRUB_CMDLINE_LINUX="quiet\n{NEXT}"'}, [("(05:00.0)", None, True)]),
        ({GRUB: f'GRUB_CMDLINE_XEN="dom0_mem=2G {NEXT}"'}, [("(05:00.0)", Ignored.XEN, False)]),
        ({GRUB: 'GRUB_CMDLINE_LINUX="pciback.hide=(05:00.0)"'}, [("(05:00.0)", Ignored.OLD_NAME, False)]),
        ({GRUB: 'GRUB_CMDLINE_LINUX="rd.qubes.hide_pci=05:00.0"'}, [("05:00.0", Ignored.QUBES, False)]),
        ({GRUB: f'GRUB_CMDLINE_LINUX="{NEXT}"\nGRUB_CMDLINE_LINUX_XEN_REPLACE="quiet"'},
         [("(05:00.0)", Ignored.REPLACED, False)]),
        ({GRUB: f'GRUB_CMDLINE_LINUX="quiet"\nGRUB_CMDLINE_LINUX_XEN_REPLACE="{NEXT}"'}, [("(05:00.0)", None, True)]),
        ({GRUB: f"GRUB_CMDLINE_LINUX=\"{NEXT}\nGRUB_DEFAULT=0\n" + "x" * 5000}, []),
        ({GRUB: f'echo "{NEXT}"'}, []),
    ],
)  # fmt: skip
def test_what_grub_has_for_the_next_boot_counts_from_then_on(
    tmp_path: Path, files: Files, expected: list[tuple[str, Ignored | None, bool]]
) -> None:
    found = of_files(tmp_path, files)
    told = [
        ("".join(entry.text for entry in one.hidden), one.ignored, one.pending) for one in found
    ]
    assert told == expected


def test_a_quotation_of_grubs_that_never_ends_takes_no_time(tmp_path: Path) -> None:
    endless = "'\n" + "a\n" * 100_000
    assert of_files(tmp_path, {GRUB: f'GRUB_CMDLINE_LINUX="{NEXT}"\n{endless}'})[0].pending


def test_a_link_of_systemds_to_etc_modules_names_one_place(tmp_path: Path) -> None:
    (tmp_path / "etc/modules-load.d").mkdir(parents=True)
    (tmp_path / "etc/modules-load.d/modules.conf").symlink_to("../modules")
    (found,) = of_files(tmp_path, {"etc/modules": ARGUMENT})
    assert found.place == "hide= in /etc/modules"


@pytest.mark.parametrize("name", ["xen-pciback.hide", "xen_pciback.hide", "pciback.hide"])
def test_xens_command_line_is_not_linuxs(tmp_path: Path, name: str) -> None:
    (found,) = of_files(tmp_path, {LINE: "ro"}, xen=f"dom0_mem=2G {name}=(01:00.0) iommu=1")
    assert (found.ignored, len(found.hidden)) == (Ignored.XEN, 1)


@pytest.mark.parametrize(
    ("value", "hidden", "trailing", "bad"),
    [
        ("hide=(01:00.0)(02:00.0)   (03:00.0)(04:00.0)", 2, "(03:00.0)(04:00.0)", ""),
        ("hide=(01:00.0) (02:00.0)\t(03:00.0)", 1, "(02:00.0) (03:00.0)", ""),
        ("hide=(01:00.0) 02:00.0", 1, "02:00.0", ""),
        ("hide= (01:00.0)", 0, "(01:00.0)", ""),
        ("hide=(01:00.0) permissive=1 quiet 0 ro", 1, "", ""),
        ('hide="(01:00.0) (02:00.0)"', 2, "", ""),
        ('"hide=(01:00.0) (02:00.0)" (03:00.0)', 2, "(03:00.0)", ""),
        ("hide=(01: 00.0)", 0, "00.0)", "(01:"),
        ("hide", 0, "", "hide"),
    ],
)
def test_a_blank_ends_the_value_and_what_follows_is_stray(
    tmp_path: Path, value: str, hidden: int, trailing: str, bad: str
) -> None:
    on_line = value.replace("hide", "xen-pciback.hide", 1)
    places = {CONF: f"options xen-pciback {value}", LINE: f"ro {on_line}", LIST: f"xen-pciback {value}"}  # fmt: skip
    for number, (path, text) in enumerate(places.items()):
        (found,) = of_files(tmp_path / str(number), {path: text})
        said = found.bad.removeprefix("xen-pciback.")
        assert (len(found.hidden), found.trailing, said) == (hidden, trailing, bad)


@pytest.mark.parametrize(
    ("value", "bad"),
    [
        ("02:00.0,0000:03:00.0", ""),
        ("(02:00.0)(03:00.0)", "(02:00.0)(03:00.0)"),
        ("02:00.0;03:00.0", "02:00.0;03:00.0"),
        ("02:00.0,00_1c.0-00_00.0", "00_1c.0-00_00.0"),
        ("02:1f.8", "02:1f.8"),
    ],
)
def test_qubes_word_has_its_own_spelling(tmp_path: Path, value: str, bad: str) -> None:
    (found,) = of_files(tmp_path, {LINE: f"rd.qubes.hide_pci={value}", QUBES: ""})
    assert (found.bad, found.by_qubes) == (bad, True)


@pytest.mark.parametrize(
    ("path", "text", "named"),
    [
        (CONF, "install e1000e /sbin/modprobe pciback && /sbin/modprobe --ignore-install e1000e", True),
        (CONF, "install e1000e /sbin/modprobe xen-pciback; /sbin/modprobe -i e1000e", False),
        (CONF, "softdep nouveau pre: pciback", True),
        (CONF, "softdep nouveau pre: xen-pciback", False),
        (CONF, "alias pciback xen-pciback\nsoftdep nouveau pre: pciback", False),
        (CONF, "install e1000e echo 'modprobe pciback", False),
        ("etc/modules", "pciback", True),
        (LIST, "pciback", True),
        (LINE, "ro modules-load=loop,pciback", True),
        (LINE, "ro modules-load=loop,xen-pciback", False),
    ],
)  # fmt: skip
def test_whatever_loads_a_module_by_the_old_name_is_named(
    tmp_path: Path, path: str, text: str, named: bool
) -> None:
    of_files(tmp_path, {path: text})
    modules = Modules(tmp_path)
    found = old_names(modules.kernel_command_line(), modules.options(), modules.module_lists())
    assert bool(found) is named


@pytest.mark.parametrize(
    ("line", "off"),
    [
        ("install xen-pciback /bin/true", True),
        ("install xen-pciback modprobe -i xen-pciback permissive=1", False),
        ("alias xen-pciback off", True),
        ("alias xen-pciback xen_pciback", False),
    ],
)
def test_what_stands_instead_of_the_module_is_named(tmp_path: Path, line: str, off: bool) -> None:
    of_files(tmp_path, {CONF: line})
    assert bool(disabled(Modules(tmp_path).options())) is off


texts = st.text(alphabet="xen-pciback hide=\"'(0:.)*;&|\\\t\x1b#", max_size=80)


@given(texts, texts, texts, texts)
def test_no_text_breaks_the_reading(line: str, option: str, command: str, listed: str) -> None:
    options = [("f", f"options xen-pciback {option}"), ("f", f"install e1000e {command}"), ("f", option)]  # fmt: skip
    lists = [("/etc/initramfs-tools/modules", f"xen-pciback {listed}")]
    grub = [
        ("/etc/default/grub", name, line) for name in ("GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_XEN")
    ]
    found = settings(line, options, lists=lists, xen_command_line=command, qubes=True, grub=grub)
    old_names(line, options, lists)
    disabled(options)
    assert all(one.place for one in found)
