"""The adapter to how kernel modules are configured: whether xen-pciback is there, with what, and loaded at boot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cede.adapters.linux.kernel_modules import Modules
from cede.errors import PermanentError
from cede.model.pciback_options import names_pciback

if TYPE_CHECKING:
    from pathlib import Path

OWN = "etc/modules-load.d/cede.conf"


def write(root: Path, path: str, said: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(said)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, "proc/sys/kernel/osrelease", "6.1.0-50-amd64\n")
    return tmp_path


@pytest.mark.parametrize(
    ("file", "there", "built_in"),
    [
        ("modules.dep", True, False),
        ("modules.builtin", True, True),
    ],
)
def test_the_module_is_found_in_the_running_kernels_lists(
    root: Path, file: str, there: bool, built_in: bool
) -> None:
    line = "kernel/drivers/xen/xen-pciback/xen-pciback.ko.xz:\n"
    write(root, f"lib/modules/6.1.0-50-amd64/{file}", line)
    assert (Modules(root).available(), Modules(root).built_in()) == (there, built_in)
    assert Modules(root).loaded_at_boot() is built_in


def test_a_kernel_without_it_has_no_module_and_of_one_without_lists_it_is_unknown(
    root: Path,
) -> None:
    assert Modules(root).available() is None
    write(root, "lib/modules/6.1.0-50-amd64/modules.dep", "kernel/fs/xen-pciback2/a.ko:\n")
    assert Modules(root).available() is False


def test_options_are_reported_with_their_file_and_a_file_in_etc_hides_its_namesake(
    root: Path,
) -> None:
    write(root, "usr/lib/modprobe.d/pci.conf", "options xen-pciback hide=(01:00.0)\n")
    assert Modules(root).options() == (
        ("/usr/lib/modprobe.d/pci.conf", "options xen-pciback hide=(01:00.0)"),
    )
    write(
        root, "etc/modprobe.d/pci.conf", "options xen_pciback \\\nhide=(02:00.0)\n# xen-pciback\n"
    )
    write(root, "etc/modprobe.d/other.conf", "options xen-pciback2 x\nblacklist xen-pciback\n")
    write(root, "etc/modprobe.d/not.read", "options xen-pciback hide=(03:00.0)\n")
    assert Modules(root).options() == (
        ("/etc/modprobe.d/other.conf", "blacklist xen-pciback"),
        ("/etc/modprobe.d/pci.conf", "options xen_pciback  hide=(02:00.0)"),
    )


def test_what_is_loaded_at_boot_is_named_in_any_of_the_folders(root: Path) -> None:
    write(root, "etc/modules-load.d/a.conf", "# xen-pciback\n;xen-pciback\nxen-pciback2\n")
    assert not Modules(root).loaded_at_boot()
    write(root, "etc/modules", "xen_pciback\n")
    assert Modules(root).loaded_at_boot()


def test_cedes_own_file_is_made_whole_and_world_readable_and_taken_away_again(root: Path) -> None:
    modules = Modules(root)
    assert modules.own_file() is None
    modules.load_at_boot()
    said = modules.own_file()
    assert said is not None
    assert said.splitlines()[-1] == "xen-pciback"
    assert (root / OWN).stat().st_mode & 0o777 == 0o644
    modules.load_at_boot()
    assert modules.own_file() == said
    assert [path.name for path in (root / OWN).parent.iterdir()] == ["cede.conf"]
    modules.dont_load_at_boot()
    modules.dont_load_at_boot()
    assert modules.own_file() is None


def test_what_else_is_in_cedes_file_stays(root: Path) -> None:
    write(root, OWN, "xen-blkback\n")
    Modules(root).load_at_boot()
    assert (root / OWN).read_text() == "xen-blkback\nxen-pciback\n"
    Modules(root).dont_load_at_boot()
    assert (root / OWN).read_text() == "xen-blkback\n"


def test_a_file_that_cant_be_written_is_an_error_with_its_remedy(root: Path) -> None:
    write(root, "etc/modules-load.d", "a file where a folder should be\n")
    with pytest.raises(PermanentError) as failed:
        Modules(root).load_at_boot()
    assert "xen-pciback > /etc/modules-load.d/cede.conf" in failed.value.remedy


@given(st.text(alphabet="xen-_pcibak \n#;", max_size=60))
def test_only_a_line_that_is_the_name_counts(said: str) -> None:
    lines = {line.strip() for line in said.splitlines()}
    names = {"xen-pciback", "xen_pciback"}
    assert names_pciback(said) is bool(lines & names)


@pytest.mark.parametrize(
    ("path", "text", "found"),
    [
        ("etc/modules", "loop\nxen_pciback\n", "/etc/modules"),
        ("etc/modules", "# xen_pciback\n", None),
        ("etc/modules-load.d/cede.conf", "xen-pciback", "/etc/modules-load.d/cede.conf"),
        ("etc/modules-load.d/cede.conf", "; xen-pciback", None),
        ("etc/modules-load.d/cede.txt", "xen-pciback", None),
        ("etc/modules-load.d/cede.conf", "not-xen-pciback", None),
        ("usr/lib/modules-load.d/x.conf", "xen-pciback", "/usr/lib/modules-load.d/x.conf"),
        ("usr/lib/modules-load.d/x.conf", "xen-pciback # cards", None),
        ("etc/modules", "xen-pciback hide=(01:00.0)", None),
        ("etc/initramfs-tools/modules.d/x", "xen-pciback", None),
        (
            "usr/share/initramfs-tools/modules.d/x",
            "xen_pciback",
            "/usr/share/initramfs-tools/modules.d/x",
        ),
        (
            "etc/initramfs-tools/modules",
            "xen-pciback hide=(01:00.0)",
            "/etc/initramfs-tools/modules",
        ),
        ("etc/dracut.conf.d/x.conf", 'force_drivers+=" xen-pciback "', "/etc/dracut.conf.d/x.conf"),
        ("etc/dracut.conf.d/x.conf", '# force_drivers+=" xen-pciback "', None),
        (
            "proc/cmdline",
            "root=/dev/vda modules-load=loop,xen-pciback",
            "modules-load=loop,xen-pciback",
        ),
        ("proc/cmdline", "root=/dev/vda xen-pciback.hide=(01:00.0)", None),
        ("etc/modules", "\x00\xff", None),
    ],
)
def test_what_loads_it_is_named(tmp_path: Path, path: str, text: str, found: str | None) -> None:
    write(tmp_path, path, text)
    assert Modules(tmp_path).loaders() == ((found,) if found else ())


def test_a_host_without_any_of_them_loads_nothing(tmp_path: Path) -> None:
    assert Modules(tmp_path).loaders() == ()
    assert Modules(tmp_path).loaded() is None


def test_a_module_and_what_is_built_in_are_distinguished(tmp_path: Path) -> None:
    (tmp_path / "sys/module/xen_pciback").mkdir(parents=True)
    assert Modules(tmp_path).loaded() == "built in"
    write(tmp_path, "proc/modules", "e1000e 1 0 - Live 0x0\nxen_pciback 106496 3 - Live 0x0\n")
    assert Modules(tmp_path).loaded() == "module"


def test_a_modprobe_file_hides_its_namesakes_in_lower_folders(tmp_path: Path) -> None:
    for folder, text in (("etc", "one"), ("usr/lib", "two")):
        write(tmp_path, f"{folder}/modprobe.d/xen.conf", text)
    write(tmp_path, "usr/lib/modprobe.d/a.conf", "three")
    write(tmp_path, "usr/lib/modprobe.d/note.txt", "four")
    assert list(Modules(tmp_path).modprobe_files().values()) == ["three", "one"]
