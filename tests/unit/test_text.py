"""Nobody's words move a cursor, begin a line or hide: there is one function that cleans, and all goes through it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cede.util.text import MAX_LENGTH, is_plain, one_line
from unit.test_cli import Shown, cede, policy

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim.in_files import SimulatedHost

__all__ = ["cede", "policy"]  # fixtures
AGENT = Path(__file__).parents[2] / "agent/cede"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain  text", "plain  text"),
        ("  indented", "  indented"),
        ("caf\u00e9 \u4e2d\u6587", "caf\u00e9 \u4e2d\u6587"),
        ("a\nb\r\n\n  c\n", "a | b | c"),
        ("a\tb", "a b"),
        ("a\x0bb\x1cc\x85d\u2028e", "a | b | c | d | e"),
        ("\x1b[2J\x1b[1;1Hall is well", "?[2J?[1;1Hall is well"),
        ("\x9b2J\x7f\x00\x08", "?2J???"),
        ("safe\u202e.fdp.exe\u2066x\u200b\u200d\ufeff\u00ad", "safe?.fdp.exe?x????"),
        ("\u3164\u115f\u2800\ufe0f\u034f\U000e0101", "??????"),
        ("\ud800", "?"),
        ("", ""),
        ("\n\n", ""),
    ],
)
def test_a_text_becomes_one_line_that_only_shows(text: str, shown: str) -> None:
    assert one_line(text) == shown


def test_a_text_is_cut_and_says_so() -> None:
    assert one_line("x" * 10**7) == "x" * (MAX_LENGTH - 3) + "..."
    assert one_line("x" * 40, 40) == "x" * 40
    assert one_line("x" * 41, 40) == "x" * 37 + "..."


@given(st.text(), st.integers(4, 40))
def test_whatever_the_text_nothing_of_it_is_obeyed(text: str, length: int) -> None:
    shown = one_line(text, length)
    assert len(shown) <= length
    assert is_plain(shown)
    assert not {category(letter) for letter in shown} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert one_line(shown, length) == shown


def test_only_one_module_prints_and_only_one_cleans() -> None:
    prints, cleans = (
        re.compile(r"\bclick\.(?:echo|secho|style)\(|\bprint\("),
        re.compile(r"\.isprintable\("),
    )
    found = {
        (path.relative_to(AGENT).as_posix(), what)
        for path in AGENT.rglob("*.py")
        for what, wanted in (("prints", prints), ("cleans", cleans))
        if wanted.search(re.sub(r"\w+print\(", "", path.read_text(encoding="utf-8")))
    }
    # a password is refused for what it holds, not cleaned
    assert found == {
        ("commands/screen.py", "prints"),
        ("util/text.py", "cleans"),
        ("guest/channels/credentials.py", "cleans"),
    }


def test_a_domain_a_driver_and_an_interface_with_escapes_forge_no_line(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    forged = "x\x1b[1A\x1b[2K\nnic0 -> pv1: in sync\u202e"
    host.tree.function(
        "0000:05:00.0", driver=forged.replace("/", "_"), net={forged: "52:54:00:00:00:09"}
    )
    for arguments in (("devices",), ("devices", "--long"), ("plan",), ("status",)):
        shown = cede(*arguments)
        for line in (*shown.out.splitlines(), *shown.err.splitlines()):
            assert is_plain(line)
        assert "\nnic0 -> pv1: in sync" not in shown.out
