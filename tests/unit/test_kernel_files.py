"""What is matched, resolved and read in the kernel's trees is what the standard library finds there, only sooner."""

from __future__ import annotations

import glob
import os
from typing import TYPE_CHECKING

import pytest

from cede.util.kernel_files import matching, realpath, text

if TYPE_CHECKING:
    from pathlib import Path

PATTERNS = (
    "*", "*/", ".*", "b*", "none*", "block/loop*/loop/backing_file", "block/*/", "block/*/loop/", "*/loop[0-9]*",
    "block/loop0", "block/none", "*/*/*", "block/?oop0/loop/*_file", "file/*", "block/loop0/.hidden", "block/.*",
)  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("loop0", "loop1", "sda", ".dot", "link"):
        (tmp_path / "block" / name / "loop").mkdir(parents=True)
    for name in ("loop0", "loop1", "sda"):
        (tmp_path / "block" / name / "loop/backing_file").write_text(f"/{name}\n")
    (tmp_path / "block/loop1/loop/backing_file").unlink()
    (tmp_path / "block/loop0/.hidden").touch()
    (tmp_path / "file").touch()
    (tmp_path / "block/broken").symlink_to("nowhere")
    (tmp_path / "block/around").symlink_to("around")
    (tmp_path / "block/other").symlink_to("../block/loop0")
    return tmp_path


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_matches_what_a_glob_does(tree: Path, pattern: str) -> None:
    assert matching(tree, pattern) == sorted(glob.glob(pattern, root_dir=tree))  # noqa: PTH207 - names below a folder


@pytest.mark.parametrize("folder", ["none", "file", "block/broken", "a\0b"])
def test_a_pattern_matches_nothing_below_what_is_no_folder(tree: Path, folder: str) -> None:
    assert matching(tree / folder, "*") == []


@pytest.mark.parametrize(
    "path", ["block/other/loop", "block/other/..", "file", "block/broken", "block/around", "none"]
)
def test_a_link_is_resolved_as_the_standard_library_does(tree: Path, path: str) -> None:
    try:
        wanted = os.path.realpath(tree / path, strict=True)
    except OSError:
        wanted = None
    assert realpath(tree / path) == wanted


def test_a_file_that_is_called_deleted_exists(tree: Path) -> None:
    (tree / "x (deleted)").touch()
    assert realpath(tree / "x (deleted)") == str(tree / "x (deleted)")


def test_a_folder_that_is_deleted_while_it_is_resolved_does_not_exist(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "going").mkdir()
    read = os.readlink

    def removed_before(path: str) -> str:
        (tree / "going").rmdir()
        return read(path)

    monkeypatch.setattr(os, "readlink", removed_before)
    assert realpath(tree / "going") is None


def test_a_long_table_of_the_kernel_is_read_to_its_end() -> None:
    """The kernel gives it out in parts, each less than what was asked for."""
    assert text("/proc/self/smaps").splitlines()[-1].startswith("VmFlags")
