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
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import disk, locks, prepared, prerequisites, pristine, qemu_programs, rootfs
from .dom0 import Dom0, Result
from .emulator import Emulator
from .errors import LabError
from .machine import DEFAULT_RELEASE, RELEASES
from .prepared import Preparation
from .progress import say, step
from .push import push
from .qemu_programs import QemuPrograms
from .restore import restore
from .store import Recipe, Store, cache_folder

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
    snapshot: str


class Lab:
    """One nested Xen host. Cheap to make: nothing is looked at until it is asked to do something.

    `checkout` decides which lab it is, and `name` too: each can have one at a time. With a `preparation` it starts from
    the snapshot in which that is done. `dies_with_caller`: it ends with the process that started it, however that ends.
    """

    def __init__(
        self,
        *,
        release: str = DEFAULT_RELEASE,
        checkout: Path | None = None,
        preparation: Preparation | None = None,
        name: str = "",
        dies_with_caller: bool = False,
    ) -> None:
        self._preparation = preparation
        self._dies_with_caller = dies_with_caller
        self.name = name
        self.release = RELEASES[release]
        self.checkout = (checkout or Path(__file__).parents[2]).resolve()
        cache = cache_folder()
        whose = hashlib.sha256(os.fsencode(self.checkout)).hexdigest()[:12]
        self.folder = cache / "run" / "-".join(filter(None, (whose, release, name)))
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
        return State.UP if running.snapshot == self._recipes()[-1].name else State.OUTDATED

    def is_running(self) -> bool:
        """Whether it runs, from whatever inputs."""
        return self._running() is not None

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

    def _recipes(self) -> tuple[Recipe, ...]:
        """How QEMU, the root file system, the disk and the snapshots are made, each from those before."""
        emulator = qemu_programs.recipe()
        programs = self._programs(emulator)
        packages = rootfs.recipe(self.release)
        image = disk.recipe(self.release, packages, self.store.path(packages))
        image_folder = self.store.path(image)
        snapshot = pristine.recipe(
            self.release,
            emulator=emulator,
            programs=programs,
            disk=image,
            disk_folder=image_folder,
        )
        if self._preparation is None:
            return emulator, packages, image, snapshot
        return (
            emulator,
            packages,
            image,
            snapshot,
            prepared.recipe(
                self.release,
                self._preparation,
                programs=programs,
                disk=image_folder,
                pristine=snapshot,
                pristine_folder=self.store.path(snapshot),
            ),
        )

    def _programs(self, emulator: Recipe) -> QemuPrograms:
        return QemuPrograms(folder=self.store.path(emulator))

    def _start(self) -> None:
        if prerequisites.missing(prerequisites.TO_RUN):
            prerequisites.require(prerequisites.TO_BUILD)
        self._forget()
        self.emulator.stop()
        prerequisites.require_memory()
        recipes = self._recipes()
        if not all(self.store.has(recipe) for recipe in recipes):
            prerequisites.require(prerequisites.TO_BUILD)
        self.store.build_all(recipes)
        with step(f"restoring the snapshot of {self.release.suite}"), ExitStack() as stack:
            stack.callback(self.emulator.stop)
            self._restore(recipes)
            stack.pop_all()
        say(f"{self.release.suite} is up: contrib/lab exec -- COMMAND")

    def _restore(self, recipes: tuple[Recipe, ...]) -> None:
        emulator, _, image, *snapshots = recipes
        with ExitStack() as held:
            keep = [self.store.hold(recipe) for recipe in (emulator, image, *snapshots)]
            for descriptor in keep:
                held.callback(os.close, descriptor)
            port = restore(
                self.emulator,
                programs=self._programs(emulator),
                disk=self.store.path(image),
                snapshot=self.store.path(snapshots[-1]),
                sockets=self.folder,
                keep=keep,
                dies_with_lab=self._dies_with_caller,
            )
        pid = self.emulator.pid
        if pid is None:
            raise LabError("QEMU ended right after the snapshot was restored")
        self._remember(Running(pid=pid, port=port, disk=image.name, snapshot=snapshots[-1].name))

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
