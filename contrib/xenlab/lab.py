"""The lab of one checkout and one dom0 release: up, reset, down, status, and commands in dom0.

The states are few and each is visible in the lab's folder:

    ABSENT    nothing runs, or what runs is half started and is thrown away by the next `up`
    UP        QEMU runs the snapshot that the inputs ask for, and dom0 answered
    OUTDATED  QEMU runs, but what it was built from has changed since
"""

import enum
import hashlib
import json
import os
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import disk, locks, prerequisites, pristine, qemu, rootfs
from .command import tail
from .dom0 import Dom0, Result
from .emulator import Emulator, PortTakenError
from .errors import LabError
from .machine import DEFAULT_RELEASE, RELEASES
from .ports import free_port
from .progress import say, step
from .push import push
from .store import Recipe, Store, cache_folder

_PORT_ATTEMPTS = 5
_RESTORE_TIMEOUT = 120
_RUNNING = "running.json"


class State(enum.Enum):
    """What there is of a lab."""

    ABSENT = "down"
    UP = "up"
    OUTDATED = "up, but built from older inputs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What the lab remembers of the QEMU that it started and found to work."""

    pid: int
    port: int
    disk: str
    pristine: str


class Lab:
    """One nested Xen host. Cheap to make: nothing is looked at until it is asked to do something.

    `checkout` decides which lab it is: two checkouts can have one at a time.
    """

    def __init__(self, *, release: str = DEFAULT_RELEASE, checkout: Path | None = None) -> None:
        self.release = RELEASES[release]
        self.checkout = (checkout or Path(__file__).parents[2]).resolve()
        cache = cache_folder()
        whose = hashlib.sha256(os.fsencode(self.checkout)).hexdigest()[:12]
        self.folder = cache / "run" / f"{whose}-{release}"
        self.store = Store(cache / "store")
        self.emulator = Emulator(folder=self.folder)

    def up(self) -> None:
        """Build what is missing and start; nothing happens if the lab is up already."""
        with self._locked():
            state = self.state()
            if state is State.UP:
                say(f"{self.release.suite} is up already")
                return
            if state is State.OUTDATED:
                say(f"what {self.release.suite} was built from has changed: starting it anew")
            self._start()

    def reset(self) -> None:
        """Go back to the snapshot: all that was done in the lab since is gone."""
        with self._locked():
            self._start()

    def down(self) -> None:
        """Stop. What was built is kept for the next `up`."""
        with self._locked():
            if self.emulator.pid is None:
                self._forget()
                say(f"{self.release.suite} is down already")
                return
            with step(f"stopping {self.release.suite}"):
                self._forget()
                self.emulator.stop()

    def state(self) -> State:
        """What there is now."""
        running = self._running()
        if running is None:
            return State.ABSENT
        if prerequisites.missing(prerequisites.TO_RUN):
            return State.OUTDATED
        return State.UP if running.pristine == self._recipes()[-1].name else State.OUTDATED

    def is_up(self) -> bool:
        """Whether it runs, and from today's inputs."""
        return self.state() is State.UP

    def dom0(self) -> Dom0:
        """The way into dom0. Raises LabError if the lab is not up."""
        running = self._running()
        if running is None:
            raise LabError(
                f"the lab ({self.release.suite}) is not up",
                remedy=f"contrib/lab up --dom0 {self.release.suite}",
            )
        return Dom0(keys=self.store.root / running.disk, port=running.port, sockets=self.folder)

    def exec(self, argv: Sequence[str], *, stdin: str | bytes = "", timeout: float = 120) -> Result:
        """Run `argv` in dom0, whatever its exit status."""
        return self.dom0().run(argv, stdin=stdin, timeout=timeout)

    def succeed(self, argv: Sequence[str], *, timeout: float = 120) -> str:
        """Run `argv` in dom0, which has to succeed, and return its stdout."""
        return self.dom0().succeed(argv, timeout=timeout)

    def push(self) -> None:
        """Install the checkout's cede in dom0."""
        push(
            self.dom0(),
            checkout=self.checkout,
            python=self.release.python,
            compiled=cache_folder() / "compiled",
        )

    def qmp(self, command: str, arguments: dict[str, Any] | None = None) -> Any:  # noqa: ANN401  QMP's answers have any shape
        """Run one QMP command: how a device is added or torn out under dom0's feet."""
        self.dom0()
        return self.emulator.ask(command, arguments)

    def console_log(self) -> str:
        """What Xen and dom0 wrote to the serial console since the snapshot."""
        return self.emulator.console()

    def _locked(self) -> AbstractContextManager[int]:
        return locks.exclusive(
            self.folder / ".lock", waiting_for="another `lab` command on this lab"
        )

    def _recipes(self) -> tuple[Recipe, Recipe, Recipe]:
        """How the root file system, the disk and the snapshot are made, each from the one before."""
        packages = rootfs.recipe(self.release)
        image = disk.recipe(self.release, packages, self.store.path(packages))
        snapshot = pristine.recipe(self.release, image, self.store.path(image))
        return packages, image, snapshot

    def _start(self) -> None:
        if prerequisites.missing(prerequisites.TO_RUN):
            prerequisites.require(prerequisites.TO_BUILD)
        self._forget()
        self.emulator.stop()
        recipes = self._recipes()
        if not all(self.store.has(recipe) for recipe in recipes):
            prerequisites.require(prerequisites.TO_BUILD)
        self.store.build_all(recipes)
        with step(f"restoring the snapshot of {self.release.suite}"), ExitStack() as stack:
            stack.callback(self.emulator.stop)
            self._restore(recipes)
            stack.pop_all()
        say(f"{self.release.suite} is up: contrib/lab exec -- COMMAND")

    def _restore(self, recipes: tuple[Recipe, Recipe, Recipe]) -> None:
        _, image, snapshot = recipes
        image_folder, snapshot_folder = self.store.path(image), self.store.path(snapshot)
        with ExitStack() as held:
            keep = [self.store.hold(recipe) for recipe in (image, snapshot)]
            for descriptor in keep:
                held.callback(os.close, descriptor)
            pristine.prepare_folder(self.folder, disk=image_folder, pristine=snapshot_folder)
            port = self._start_on_free_port(keep)
        self.emulator.await_status("paused", timeout=_RESTORE_TIMEOUT)
        self.emulator.ask("cont")
        dom0 = Dom0(keys=image_folder, port=port)
        try:
            # dom0's clock stands where the snapshot was taken.
            dom0.wait_until_succeeds(
                ["date", "--set", f"@{time.time():.1f}"], timeout=_RESTORE_TIMEOUT
            )
        except LabError as error:
            error.details += "\n" + tail(self.emulator.console())
            raise
        pid = self.emulator.pid
        if pid is None:
            raise LabError("QEMU ended right after the snapshot was restored")
        self._remember(Running(pid=pid, port=port, disk=image.name, pristine=snapshot.name))

    def _start_on_free_port(self, keep: Sequence[int]) -> int:
        for attempt in range(_PORT_ATTEMPTS):
            port = free_port()
            try:
                self.emulator.start(qemu.command_line(ssh_port=port, restore=True), keep=keep)
            except PortTakenError:
                if attempt == _PORT_ATTEMPTS - 1:
                    raise
            else:
                return port
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _running(self) -> Running | None:
        """What runs and was found to work; None if nothing does."""
        try:
            running = Running(**json.loads((self.folder / _RUNNING).read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return running if running.pid == self.emulator.pid else None

    def _remember(self, running: Running) -> None:
        half_written = self.folder / f"{_RUNNING}.tmp"
        half_written.write_text(json.dumps(asdict(running)) + "\n")
        half_written.rename(self.folder / _RUNNING)

    def _forget(self) -> None:
        (self.folder / _RUNNING).unlink(missing_ok=True)
