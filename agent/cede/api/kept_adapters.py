"""Adapters that stay open between requests: connecting to libvirt takes longer than most questions to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from threading import Lock
from typing import TYPE_CHECKING

from cede.adapters.ports import Adapters
from cede.adapters.runtime import LibvirtAccess, Runtime
from cede.errors import CedeError, HungError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

    Opening = Callable[[Runtime, LibvirtAccess], AbstractContextManager[Adapters]]

_KEPT = 2


class KeptAdapters:
    """Opens adapters by `opening`, and keeps a few of them; each is one request's at a time.

    Only those that need libvirt are kept: the others are opened because libvirt may not answer. What a failure or a
    damaged journal was met with is closed.
    """

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._lock = Lock()
        self._idle: list[tuple[Adapters, ExitStack]] = []
        self._closed = False

    @contextmanager
    def open(self, runtime: Runtime, access: LibvirtAccess) -> Iterator[Adapters]:
        """Open adapters, or take such as are open (`Runtime.open_adapters`)."""
        if access is not LibvirtAccess.REQUIRED:
            with self._opening(runtime, access) as opened:
                yield opened
            return
        adapters, stack = self._take(runtime, access)
        sound = False
        try:
            yield adapters
            sound = True
        except (HungError, UnreachableError):
            raise
        except CedeError:
            sound = True  # a refusal, say
            raise
        finally:
            adapters.journal.close()  # another cede may set a damaged one aside meanwhile
            if not (sound and self._keep(adapters, stack)):
                stack.close()

    def _take(self, runtime: Runtime, access: LibvirtAccess) -> tuple[Adapters, ExitStack]:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        with ExitStack() as stack:
            adapters = stack.enter_context(self._opening(runtime, access))
            return adapters, stack.pop_all()

    def _keep(self, adapters: Adapters, stack: ExitStack) -> bool:
        with self._lock:
            journal = adapters.journal
            if (
                self._closed
                or len(self._idle) >= _KEPT
                or journal.warnings  # told once
                or journal.rebuilt
            ):
                return False
            self._idle.append((adapters, stack))
            return True

    def close(self) -> None:
        """Close those that nobody uses, and keep none from now on."""
        with self._lock:
            idle, self._idle, self._closed = self._idle, [], True
        for _, stack in idle:
            stack.close()
