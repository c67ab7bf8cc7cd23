"""What was built, by what it was built from.

Each artifact is a folder `<kind>-<release>-<digest>` whose digest covers all that went into it, so
a changed input makes a new folder and an unchanged one is found again. It is built under another
name and renamed when it is whole and on the disk: nothing half built is ever taken for whole.
Different ones can be built at the same time, by different processes.
"""

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from . import locks
from .command import as_root, run
from .errors import LabError
from .progress import say

_DIGEST_LENGTH = 16
_KEPT = 2  # of each kind and release, beside the one that is wanted
_MIB = 1 << 20
_NO_SPACE = re.compile("No space left on device|enough free space")


def cache_folder() -> Path:
    """The lab's folder below the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "cede" / "lab"


def digest(parts: Iterable[str | bytes]) -> str:
    """One name for all of `parts`, in their order."""
    summary = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        summary.update(len(data).to_bytes(8, "big"))
        summary.update(data)
    return summary.hexdigest()[:_DIGEST_LENGTH]


def digest_of_modules(*names: str) -> str:
    """A digest of the lab's own source: what decides how something is built is an input too."""
    folder = Path(__file__).parent
    return digest((folder / f"{name}.py").read_bytes() for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to build one artifact: `build` fills the empty folder that it is given."""

    kind: str
    release: str
    digest: str
    needs_mib: int
    build: Callable[[Path], None]

    @property
    def name(self) -> str:
        """The name of the artifact's folder."""
        return f"{self.kind}-{self.release}-{self.digest}"


class Store:
    """The folder of artifacts, below the user's cache."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, recipe: Recipe) -> Path:
        """Where the artifact of `recipe` is, or would be."""
        return self.root / recipe.name

    def has(self, recipe: Recipe) -> bool:
        """Whether the artifact of `recipe` was built."""
        return self.path(recipe).is_dir()

    def build_all(self, recipes: Iterable[Recipe]) -> None:
        """Build those of `recipes` that are not there yet, in their order."""
        wanted = list(recipes)
        if all(self.has(recipe) for recipe in wanted):
            self._touch(wanted)
            return
        try:
            for recipe in wanted:
                self._build_once(recipe)
            with locks.exclusive(self.root / ".lock", waiting_for="another `lab up` that tidies"):
                self._touch(wanted)
                self._remove_stale(wanted)
                self._remove_half_built("*")
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise self._full() from error
            raise

    def hold(self, recipe: Recipe) -> int:
        """Keep the artifact from being removed while the returned descriptor is open."""
        return locks.share(self._lock(recipe.name))

    def _build_once(self, recipe: Recipe) -> None:
        if self.has(recipe):
            return
        waiting_for = f"another `lab up` that builds the {recipe.kind} of {recipe.release}"
        with locks.exclusive(self._build_lock(recipe.name), waiting_for=waiting_for):
            if not self.has(recipe):
                self._remove_half_built(recipe.name)
                self._build(recipe)
        self._build_lock(recipe.name).unlink(missing_ok=True)

    def _build(self, recipe: Recipe) -> None:
        free_mib = self._free_mib()
        if free_mib < recipe.needs_mib:
            raise LabError(
                f"{self.root} has {free_mib} MiB free, and the {recipe.kind} of "
                f"{recipe.release} needs {recipe.needs_mib} MiB",
                remedy="make room, or point XDG_CACHE_HOME to a bigger disk",
            )
        half_built = self.root / f"{recipe.name}.{os.getpid()}.tmp"
        with ExitStack() as undo:
            undo.callback(_remove, half_built)
            half_built.mkdir()
            try:
                recipe.build(half_built)
            except LabError as error:
                # A tool that ran out of space says so in its own words, if at all.
                if _NO_SPACE.search(error.details) or self._free_mib() == 0:
                    raise self._full() from error
                raise
            os.sync()
            half_built.rename(self.path(recipe))
            undo.pop_all()

    def _free_mib(self) -> int:
        return shutil.disk_usage(self.root).free // _MIB

    def _full(self) -> LabError:
        return LabError(
            f"the disk of {self.root} is full",
            remedy="make room, or point XDG_CACHE_HOME to a bigger disk; nothing half built is kept",
        )

    def _remove_half_built(self, name: str) -> None:
        """Remove what killed builds left: of the artifact whose lock is held, or of all that nobody builds."""
        for leftover in self.root.glob(f"{name}.*.tmp"):
            if name == "*" and locks.in_use(self._build_lock(leftover.name.split(".")[0])):
                continue
            say(f"removing {leftover.name}, left by a build that was killed")
            _remove(leftover)

    def _touch(self, wanted: Iterable[Recipe]) -> None:
        """Note that these were used just now."""
        for recipe in wanted:
            os.utime(self.path(recipe))

    def _remove_stale(self, wanted: Iterable[Recipe]) -> None:
        """Remove what other inputs of the same kind and release made, unless a lab runs on it.

        The ones used last stay: another checkout may stand at them, and come back in a moment.
        """
        for recipe in wanted:
            found = self.root.glob(f"{recipe.kind}-{recipe.release}-*")
            others = sorted(set(found) - {self.path(recipe)}, key=_used, reverse=True)
            for other in others[_KEPT:]:
                if not locks.in_use(self._lock(other.name)):
                    _remove(other)
                    self._lock(other.name).unlink(missing_ok=True)

    def _lock(self, name: str) -> Path:
        return self.root / f".{name}.lock"

    def _build_lock(self, name: str) -> Path:
        return self.root / f".{name}.build.lock"


def _used(folder: Path) -> float:
    """When it was last used; long ago if it has just been removed."""
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _remove(folder: Path) -> None:
    """Remove `folder`, also when root owns parts of it, as in a root file system.

    By rm(1), for its refusal to go into anything that is mounted below.
    """
    argv = ["rm", "-rf", "--one-file-system", "--", str(folder)]
    if folder.exists() and run(argv, check=False).returncode != 0:
        as_root(argv, why=f"remove {folder}")
