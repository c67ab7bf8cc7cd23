"""Works virt-manager's window as the administrator would, by AT-SPI; runs in that window's own D-Bus session.

`python3 in_desk.py` answers one request after the other, each a line of JSON on stdin, with a line of JSON on stdout:
{"answer": ...}, or {"failed": TEXT} where TEXT ends with the widgets that could be seen.

{"do": "rows"}                        names of the rows in the list of hardware
{"do": "remove", "row": NAME}         take out that row's device, and say yes
{"do": "add", "address": ADDRESS}     add the host's PCI device that has that address
{"do": "retitle", "title": TEXT}      give the domain another title, and apply
{"do": "console"}                     turn to the console's page; the text that stands there
{"do": "type", "text": TEXT}          type on the console's page

What changes something answers with the words of the dialog that came up against it; with none if all went well.
"""

from __future__ import annotations

import json
import re
import sys
import time
from typing import TYPE_CHECKING, Any

import gi

gi.require_version("Atspi", "2.0")
from gi.repository import Atspi, GLib  # noqa: E402 - the version is chosen first

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Widget = Any  # Atspi.Accessible, which has no types

PATIENCE = 60.0  # of seconds: an emulated host answers slowly, and virt-manager waits for it
PAUSE = 0.1
CALL_MS = 20_000  # virt-manager answers nobody while it waits for libvirt
MOST_WIDGETS = 3000
MAX_WIDGETS = 150
BUTTON = {"push button", "button"}  # before and after at-spi2-core 2.54
HARDWARE = "hw-list"
ALERT = {"alert"}
ADDING = ({"frame", "dialog"}, "^Add New Virtual Hardware$")
DISMISS = "^_?(Close|OK|No|Cancel)$"


class MissingError(Exception):
    """What was looked for can't be seen, though it was waited for."""


def is_in(widget: Widget, state: Atspi.StateType) -> bool:
    """Whether the widget has that state."""
    return bool(widget.get_state_set().contains(state))


def visible(root: Widget, depth: int = 0) -> Iterator[tuple[int, Widget]]:
    """What can be seen below `root`, with how deep it is in it; a list's rows also where they are scrolled away."""
    for index in range(min(root.get_child_count(), MOST_WIDGETS)):
        child = root.get_child_at_index(index)
        if child is None:
            continue
        if is_in(child, Atspi.StateType.SHOWING) or child.get_role_name() == "table cell":
            yield depth, child
            yield from visible(child, depth + 1)


def name_of(widget: Widget) -> str:
    """The widget's name, or that of the label beside it."""
    if widget.get_name():
        return str(widget.get_name())
    for relation in widget.get_relation_set():
        if relation.get_relation_type() == Atspi.RelationType.LABELLED_BY:
            return str(relation.get_target(0).get_name())
    return ""


def until(found: Callable[[], Any], what: str) -> Any:  # noqa: ANN401 - what is found
    """What `found` returns once that is something; MissingError if it is nothing for too long."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            answer = found()
        except GLib.Error:  # a widget went while it was looked at
            answer = None
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise MissingError(f"after {PATIENCE:.0f} s still no {what}")
        time.sleep(PAUSE)


class Window:
    """virt-manager's windows."""

    def __init__(self) -> None:
        Atspi.init()
        Atspi.set_timeout(CALL_MS, CALL_MS)
        self.application: Widget = until(self._application, "virt-manager on the accessibility bus")

    def _application(self) -> Widget | None:
        self._refresh()
        desktop = Atspi.get_desktop(0)
        desktop.clear_cache()
        all_of_them = (desktop.get_child_at_index(n) for n in range(desktop.get_child_count()))
        return next((one for one in all_of_them if one and one.get_child_count()), None)

    @staticmethod
    def _refresh() -> None:
        """libatspi believes what it once read until it has heard of what changed."""
        while GLib.MainContext.default().iteration(False):
            pass

    def all(self, roles: set[str], name: str = "", under: Widget | None = None) -> list[Widget]:
        """The widgets of one of those roles whose name fits, as they are now."""
        self._refresh()
        self.application.clear_cache()
        return [
            widget
            for _, widget in visible(under or self.application)
            if widget.get_role_name() in roles and re.search(name, name_of(widget))
        ]

    def one(self, roles: set[str], name: str, under: Widget | None = None) -> Widget:
        """The first such widget, as soon as there is one."""
        what = f"{'/'.join(sorted(roles))} {name!r}"
        return until(lambda: self.all(roles, name, under), what)[0]

    def press(self, roles: set[str], name: str, under: Widget | None = None) -> None:
        """Press it, as soon as it can be pressed."""
        widget = self.one(roles, name, under)
        until(lambda: is_in(widget, Atspi.StateType.SENSITIVE), f"use in pressing {name!r}")
        Atspi.Action.do_action(widget, 0)

    def click(self, roles: set[str], name: str) -> None:
        """Press it with the pointer: GTK answers no action before the question that it asks thereupon is answered."""
        widget = self.one(roles, name)
        until(lambda: is_in(widget, Atspi.StateType.SENSITIVE), f"use in clicking {name!r}")
        place = Atspi.Component.get_extents(widget, Atspi.CoordType.SCREEN)
        x, y = place.x + place.width // 2, place.y + place.height // 2
        Atspi.generate_mouse_event(x, y, "b1c")

    def select(self, table: Widget, name: str) -> None:
        """Select the table's row in which a cell's name fits."""
        cell = self.one({"table cell"}, name, table)
        while cell.get_parent().get_role_name() == "table cell":  # an icon and a text share one
            cell = cell.get_parent()
        row = Atspi.Table.get_row_at_index(table, cell.get_index_in_parent())
        until(
            lambda: (
                Atspi.Table.add_row_selection(table, row) or Atspi.Table.is_row_selected(table, row)
            ),
            f"selection of {name!r}",
        )

    def names(self, table: Widget) -> list[str]:
        """The names of a table's cells that have one."""
        return [cell.get_name() for cell in self.all({"table cell"}, ".", table)]

    def words(self, dialog: Widget) -> str:
        """What stands in a dialog."""
        return " ".join(label.get_name() for label in self.all({"label"}, ".", dialog))

    def rows(self) -> list[str]:
        """The names of the rows in the list of hardware."""
        return self.names(self.one({"table"}, f"^{HARDWARE}$"))

    def settled(self, done: Callable[[], bool], what: str) -> str:
        """Wait until it is done: no words. Or until a dialog says something: its words, and it is sent away."""
        until(lambda: done() or self.all(ALERT), what)
        alerts = self.all(ALERT)
        if not alerts:
            return ""
        said = self.words(alerts[0])
        self.press(BUTTON, DISMISS, alerts[0])
        until(lambda: not self.all(ALERT), f"end of the dialog that says {said!r}")
        return said

    def remove(self, row: str) -> str:
        """Take out that row's device, and say yes."""
        self.select(self.one({"table"}, f"^{HARDWARE}$"), f"^{re.escape(row)}$")
        self.click(BUTTON, "^config-remove$")
        asked = self.one(ALERT, "")
        if "remove this device" not in self.words(asked):
            raise MissingError(f"where it should ask: {self.words(asked)}")
        self.press(BUTTON, "^_?Yes$", asked)
        until(lambda: asked not in self.all(ALERT), "end of the question")
        return self.settled(lambda: row not in self.rows(), f"list of hardware without {row!r}")

    def add(self, address: str) -> str:
        """Add the host's PCI device that has that address."""
        before = len(self.rows())
        self.press(BUTTON, "^add-hardware$")
        window = self.one(*ADDING)
        kinds = self.one({"table"}, "", window)
        self.select(kinds, "^PCI Host Device$")
        page = self.one({"filler", "panel", "page tab"}, "^host-tab$", window)
        named = re.escape(address.replace(".", ":"))  # as virt-manager writes it there
        self.select(self.one({"table"}, "", page), f"(?i)^{named}")
        self.press(BUTTON, "^(create-finish|_?Finish)$", window)
        return self.settled(
            lambda: len(self.rows()) > before and not self.all(*ADDING), f"hardware at {address}"
        )

    def retitle(self, title: str) -> str:
        """Give the domain another title, and apply."""
        self.select(self.one({"table"}, f"^{HARDWARE}$"), "^Overview$")
        Atspi.EditableText.set_text_contents(self.one({"text"}, "^Title:$"), title)
        self.press(BUTTON, "^config-apply$")
        apply = self.one(BUTTON, "^config-apply$")
        return self.settled(lambda: not is_in(apply, Atspi.StateType.SENSITIVE), "end of applying")

    def console(self) -> str:
        """Turn to the console's page; the text that stands there."""
        self.press({"radio button"}, "^Console$")
        terminal = self.one({"terminal"}, "")
        return str(Atspi.Text.get_text(terminal, 0, Atspi.Text.get_character_count(terminal)))

    def type(self, text: str) -> None:
        """Type on the console's page."""
        self.press({"radio button"}, "^Console$")
        Atspi.Component.grab_focus(self.one({"terminal"}, ""))
        Atspi.generate_keyboard_event(0, text, Atspi.KeySynthType.STRING)

    def seen(self) -> str:
        """The widgets that can be seen, indented as they lie in each other."""
        self._refresh()
        self.application.clear_cache()
        lines = [
            f"{'  ' * depth}{widget.get_role_name()} {widget.get_name()!r}"
            for depth, widget in visible(self.application)
            if widget.get_name() or depth == 0
        ]
        more = [f"and {len(lines) - MAX_WIDGETS} more"] if len(lines) > MAX_WIDGETS else []
        return "\n".join([*lines[:MAX_WIDGETS], *more])


def main() -> None:
    """Answer until nobody asks any more."""
    window: Window | None = None
    for line in sys.stdin:
        request = json.loads(line)
        reported: dict[str, object]
        try:
            window = window or Window()
            do = getattr(window, request.pop("do"))
            reported = {"answer": do(**request)}
        except Exception as failed:  # noqa: BLE001 - whoever asked is told
            seen = window.seen() if window else "nothing"
            reported = {"failed": f"{type(failed).__name__}: {failed}\ncan be seen:\n{seen}"}
        sys.stdout.write(json.dumps(reported) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
