"""Has cede find the uses of dom0's devices, and records all that it read; this file is sent to dom0's python3.

`python3 - SCENES` makes each scene of a JSON file (`name`, and `begin` and `end` for the shell), looks and unmakes it.
It prints one line of JSON for each: the uses by address, and what cede asked: files, folders and links below /proc,
/sys, /run and /dev, device nodes, the answers of `ip`, and the disks and interfaces of guests; or what failed.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
import traceback
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cede.adapters.composition import host_runtime
from cede.adapters.linux.host_uses import HostUses
from cede.adapters.linux.host_uses.nodes import Nodes
from cede.adapters.linux.network_links import Links
from cede.services.observe import find_uses
from cede.util import process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cede.adapters import ports
    from cede.model.network import Network
    from cede.model.pci import Address, HostUse
    from cede.model.served import Served

_SECONDS = 60
_ROOTS = ("/proc/", "/sys/", "/run/", "/dev/")
_LISTING = ("listdir", "scandir")
_ASKING = ("stat", "lstat", "readlink", "listdir", "scandir", "open", "access")
# of no interest to anybody, and there are thousands
_PLAIN = ("pipe:", "anon_inode:", "/proc/", "/memfd:", "/dev/null", "/usr/", "/var/lib/")


class Asked:
    """What was asked of the kernel, in the order in which it was."""

    def __init__(self) -> None:
        self.paths: dict[str, None] = {}
        self.listed: dict[str, None] = {}
        self.nodes: dict[str, Any] = {}
        self.ip: dict[str, str] = {}
        self.ways: dict[str, str] = {}
        self.guests: dict[str, Mapping[str, Sequence[str]]] = {}

    def watch(self) -> None:
        """Note from now on which paths are asked for."""
        for name in _ASKING:
            setattr(os, name, self._noting(getattr(os, name), name in _LISTING))

    def _noting(self, call: Callable[..., Any], lists: bool) -> Callable[..., Any]:
        @wraps(call)
        def noting(path: Any = ".", *rest: Any, **named: Any) -> Any:  # noqa: ANN401 - as the call
            if isinstance(path, str | os.PathLike):
                asked = os.path.normpath(os.fspath(path))
                self.paths[asked] = None
                if lists:
                    self.listed[asked] = None
            return call(path, *rest, **named)

        return noting

    def tree(self) -> dict[str, Any]:
        """What is there of all the paths that were asked for: folders are None, links a list of one, files text.

        Of what was only listed, nothing else is kept.
        """
        found: dict[str, Any] = {}
        asked = frozenset(self.paths)
        listed = [folder for folder in self.listed if f"{folder}/".startswith(_ROOTS)]
        for path in asked:
            if path.startswith(_ROOTS):
                self._add(found, path, asked)
        for folder in listed:
            if Path(folder).is_dir():
                for child in Path(folder).iterdir():
                    self._add(found, str(child), asked)
        return found

    def _add(self, found: dict[str, Any], path: str, asked: frozenset[str]) -> None:
        own = f"/proc/{os.getpid()}"
        if path == own or path.startswith(f"{own}/") or path in found:
            return
        try:
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                target = str(Path(path).readlink())
                if "/fd/" in path and target.startswith(_PLAIN):
                    return
                found[path] = [target]
                if path.startswith("/sys/"):
                    self._add(found, os.path.realpath(path), asked)
            elif stat.S_ISDIR(mode):
                found[path] = None
            elif stat.S_ISREG(mode):
                content = Path(path).read_bytes() if path in asked else b""
                found[path] = content.decode("utf-8", "replace").rstrip("\n")
        except OSError:
            return


class AskedNodes(Nodes):
    """Asks as the real one does, and notes the answers."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked

    def number(self, path: str) -> Any:  # noqa: ANN401 - as the real one
        """Note it by its path."""
        found = super().number(path)
        if found is not None:
            self._asked.nodes[f"number {path}"] = found
        return found

    def filesystem(self, path: str) -> str | None:
        """Note it by its path."""
        found = super().filesystem(path)
        if found is not None:
            self._asked.nodes[f"filesystem {path}"] = found
        return found

    def held(self, path: str, number: str) -> bool:
        """Note it by its path."""
        found = super().held(path, number)
        if found:
            self._asked.nodes[f"held {path}"] = number
        return found

    def console_frame_buffers(self, path: str) -> frozenset[int]:
        """Note it by its path."""
        found = super().console_frame_buffers(path)
        self._asked.nodes[f"frame buffers {path}"] = sorted(found)
        return found


class AskedLinks(Links):
    """Asks as the real one does, and notes the answers."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked

        def run(*argv: str, **named: Any) -> str:  # noqa: ANN401 - as process.run
            said = process.run(*argv, **named)
            asked.ip[" ".join(argv)] = said
            return said

        def run_apart(*argv: str, **named: Any) -> process.CompletedProcess:  # noqa: ANN401 - as process.run_apart
            done = process.run_apart(*argv, **named)
            if "route" not in named.get("stdin", ""):
                asked.ip[" ".join(argv)] = done.out.decode("utf-8", "replace")
            return done

        super().__init__(run, run_apart)

    def ways(self, peers: Sequence[str]) -> dict[str, str]:
        """Note each way."""
        found = super().ways(peers)
        self._asked.ways.update(found)
        return found


class AskedUses:
    """Finds the uses as the real one does, and notes what guests use."""

    def __init__(self, uses: HostUses, asked: Asked) -> None:
        self._uses, self._asked = uses, asked

    def find(self, network: Network, served: Served) -> dict[Address, list[HostUse]]:
        """Note from here on what is asked."""
        self._asked.guests = {
            "disks": served.disks,
            "interfaces": served.interfaces,
            "devices": served.devices,
            "pools": served.pools,
        }
        self._asked.watch()
        return self._uses.find(network, served)


def look() -> dict[str, Any]:
    """What is found, and what was asked for it."""
    asked = Asked()
    runtime = host_runtime()
    paths = runtime.paths
    links = AskedLinks(asked)
    uses = HostUses(paths.sys, paths.proc, paths.run, paths.dev, links, AskedNodes(asked))
    with runtime.adapters() as adapters:
        recording = replace(adapters, uses=cast("ports.HostUses", AskedUses(uses, asked)))
        found = find_uses(recording, links.network(), adapters.libvirt.domains())
    return {
        "uses": {
            str(address): [{"guard": use.guard, "chain": use.chain} for use in its]
            for address, its in sorted(found.items())
        },
        "tree": asked.tree(),
        "nodes": asked.nodes,
        "ip": asked.ip,
        "ways": asked.ways,
        "guests": asked.guests,
    }


def sh(script: str) -> str:
    """Run a shell script, which has to succeed; returns what was wrong."""
    argv = ["timeout", str(_SECONDS), "sh", "-ec", script]
    with tempfile.TemporaryFile("w+") as said:  # a daemon that it leaves may hold it open
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said, check=False)
        said.seek(0)
        return f"status {done.returncode}: {said.read()}" if done.returncode else ""


def scene(name: str, begin: str, end: str) -> dict[str, Any]:
    """Look at it in a child, as what was watched stays watched."""
    failed = sh(begin)
    with tempfile.TemporaryFile("w+") as answer:
        pid = os.fork()
        if pid == 0:
            try:
                json.dump({} if failed else look(), answer)
                answer.flush()
            except BaseException:  # noqa: BLE001 - it is told
                answer.truncate(0)
                json.dump({"failed": traceback.format_exc()}, answer)
                answer.flush()
            os._exit(0)
        os.waitpid(pid, 0)
        answer.seek(0)
        found: dict[str, Any] = json.load(answer)
    failed = failed or sh(end)
    return {"name": name, **found, **({"failed": failed} if failed else {})}


def main() -> None:
    """Make one scene after the other."""
    for one in json.loads(Path(sys.argv[1]).read_text()):
        sys.stdout.write(json.dumps(scene(**one), sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
