"""Installing the checkout's cede in dom0, as its package would lay it out.

Only what changed is sent and compiled: each file of Python costs dom0 a moment under emulation. What dom0 has compiled
is kept, so that the next pristine one is given it as it is.
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from .dom0 import Dom0
from .errors import LabError
from .progress import say, step

_PACKAGE = "cede"
_LAUNCHER = """\
#!/usr/bin/python3 -P
import sys

from cede.cli.main import main

sys.exit(main())
"""

# Runs in dom0; argv[1] is the folder of the package. Reads, from standard input, one line of JSON
# (the files that there shall be) and then a tar archive of those that changed.
_INSTALL = """\
import compileall, json, os, pathlib, sys, tarfile
folder = pathlib.Path(sys.argv[1])
wanted = json.loads(sys.stdin.buffer.readline())
manifest = folder / ".pushed.json"
manifest.unlink(missing_ok=True)
for found in sorted(folder.rglob("*"), reverse=True):
    if found.is_dir():
        if not any(found.iterdir()):
            found.rmdir()
    elif "__pycache__" in found.parts:
        if str(found.relative_to(folder).parent.parent / (found.name.split(".")[0] + ".py")) not in wanted:
            found.unlink()
    elif str(found.relative_to(folder)) not in wanted:
        found.unlink()
with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
    archive.extractall("/", **({"filter": "tar"} if hasattr(tarfile, "tar_filter") else {}))
done = compileall.compile_dir(folder, quiet=1)
manifest.write_text(json.dumps(wanted))
sys.exit(0 if done else 1)
"""
_LAUNCHER_PATH = "usr/local/bin/cede"
_KEPT = 4


def push(dom0: Dom0, *, checkout: Path, python: str, compiled: Path) -> None:
    """Make the cede of a dom0 with that version of Python the same as the checkout's.

    `compiled` is the folder for what was compiled before.

    Raises LabError if it cannot be installed.
    """
    files = dict(package_files(checkout))
    folder = f"/usr/local/lib/python{python}/dist-packages/{_PACKAGE}"
    wanted = {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
    installed = dom0.run(["cat", f"{folder}/.pushed.json"])
    present = json.loads(installed.stdout) if installed.returncode == 0 else {}
    if present == wanted:
        say("dom0 has this checkout's cede already")
        return
    name = hashlib.sha256(json.dumps([python, wanted, _LAUNCHER]).encode()).hexdigest()[:16]
    kept = compiled / f"{name}.tar"
    if not present and kept.exists():
        with step("installing cede in dom0, compiled before"):
            dom0.succeed(["tar", "-xf", "-", "-C", "/"], stdin=kept.read_bytes())
        return
    changed = {path for path in files if present.get(path) != wanted[path]}
    with step(f"installing cede in dom0 ({len(changed)} of {len(files)} files changed)"):
        archive = _archive(folder, {path: files[path] for path in sorted(changed)})
        order = json.dumps(wanted).encode() + b"\n"
        dom0.succeed(["python3", "-c", _INSTALL, folder], stdin=order + archive)
        _keep(kept, dom0.fetch(["tar", "-cf", "-", "-C", "/", folder[1:], _LAUNCHER_PATH]))


def _keep(path: Path, archive: bytes) -> None:
    """Keep `archive` and the latest few beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half_written = path.with_name(f"{path.name}.{os.getpid()}")
    half_written.write_bytes(archive)
    half_written.rename(path)
    latest_first = sorted(path.parent.glob("*.tar"), key=lambda found: -found.stat().st_mtime)
    for old in latest_first[_KEPT:]:
        old.unlink(missing_ok=True)


def package_files(checkout: Path) -> Iterator[tuple[str, bytes]]:
    """The files of the installed package, by their path in it."""
    source = checkout / "agent" / _PACKAGE
    if not source.is_dir():
        raise LabError(f"{checkout} has no agent/{_PACKAGE}", remedy="run the lab of a checkout")
    for path in sorted(source.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield str(path.relative_to(source)), path.read_bytes()
    for path in sorted((checkout / "schemas").glob("*")):
        if path.is_file():
            yield f"schemas/{path.name}", path.read_bytes()


def _archive(folder: str, files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:

        def add(path: str, content: bytes, mode: int) -> None:
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode = len(content), mode
            # Python tells by the time whether a compiled file is still right.
            entry.mtime = int.from_bytes(hashlib.sha256(content).digest()[:3], "big")
            archive.addfile(entry, io.BytesIO(content))

        add(_LAUNCHER_PATH, _LAUNCHER.encode(), 0o755)
        for path, content in files.items():
            add(f"{folder}/{path}", content, 0o644)
    return packed.getvalue()
