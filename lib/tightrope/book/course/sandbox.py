"""What a submission is shut off from, on this machine: tried out, not assumed.

Three ways, the first that holds is taken: bubblewrap; `unshare` and `setpriv`; nothing but limits. The first two give a
root of read-only folders (Python and the library) with an empty scratch folder, no network, no process but one's own,
and no capabilities; as root also another user. Each is tried with a probe that looks for a solution, for another
process and for a server of ours, and one in which it finds any of them is not taken.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tightrope.book.checkout import Checkout

USER = 60_500  # the first of the users that submissions run as under root: numbers that no system gives out
SCRATCH = 2**26  # bytes of the scratch folder
SYSTEM = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives")
DEVICES = ("null", "zero", "full", "random", "urandom")

# Looks around from inside. Arguments: paths that must not be there, the port of a server that must not answer.
PROBE = """
import json, os, socket, sys
paths, port = json.loads(sys.argv[1])
try:
    socket.create_connection(("127.0.0.1", port), timeout=2).close()
    reached = True
except OSError:
    reached = False
def seen(path):
    try:
        return os.path.isfile(path) or bool(os.listdir(path))
    except OSError:
        return False
count = sum(name.isdigit() for name in os.listdir("/proc")) if os.path.isdir("/proc") else 0
open(os.path.join(os.environ["HOME"], "probe"), "w").close()
import ctypes, zlib, tightrope
print(json.dumps({"network": reached, "files": any(map(seen, paths)), "processes": not 0 < count < 9}))
"""


@dataclass(frozen=True)
class Sandbox:
    """A way to run a process. visible: what it may read; hidden: what must not be there; root: an empty folder, to
    mount on; packages: where Python finds the library, and what it needs."""

    way: str
    visible: tuple[Path, ...]
    hidden: tuple[Path, ...]
    root: Path
    packages: tuple[Path, ...]

    def command(self, words: list[str], slot: int) -> list[str]:
        """The command that runs `words` inside; submissions that run side by side have different slots."""
        if self.way == "limits":  # a shell between, for who ends the parent
            return ["sh", "-c", '"$@"; exit $?', "sh", *words]
        death = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        as_root = os.getuid() == 0
        user = str(USER + slot)
        change = ["--reuid", user, "--regid", user, "--clear-groups"] if as_root else []
        drop = ["setpriv", *change, "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
        if self.way == "bwrap":
            return [*death, *self._bubble(as_root), *(drop if as_root else []), *words]
        mapped = [] if as_root else ["--map-root-user"]
        apart = ["unshare", *mapped, "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child"]
        return [*death, *apart, "sh", "-c", self._script(), "sh", *drop, *words]

    def environment(self, home: str) -> dict[str, str]:
        """All that a submission is told about its surroundings. home: its scratch folder, as it sees it."""
        said = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        said |= dict.fromkeys(("PYTHONNOUSERSITE", "PYTHONDONTWRITEBYTECODE", "PYTHONUTF8"), "1")
        said |= dict.fromkeys(("HOME", "TMPDIR", "IPYTHONDIR", "MPLCONFIGDIR"), home)
        said |= {
            "PYTHONPATH": os.pathsep.join(map(str, self.packages)),
            "PYTHONHASHSEED": "0",
            "MPLBACKEND": "agg",
            "LC_ALL": "C.UTF-8",
        }
        return said | {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "USER": "student"}

    def sentence(self) -> str:
        """What is isolated and what is not, for the report's first line."""
        if self.way == "limits":
            bound = "time, memory and output" if os.getuid() == 0 else "time, memory, processes and output"
            return (
                "NOT ISOLATED: neither bubblewrap nor unshare works on this machine, so a submission runs as you, can "
                "read what you can read, solutions and other submissions included, and can reach the network. Limits "
                f"on {bound} hold."
            )
        return (
            f"Isolated by {self.way}: a submission sees neither the solutions nor anybody's files, has no network and "
            "sees no process but its own. It shares its process with the tests, so that somebody determined can still "
            "make up a result."
        )

    def _bubble(self, as_root: bool) -> list[str]:
        words = [shutil.which("bwrap") or "bwrap", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
        if as_root:  # no user namespace: there a limit on processes would count for root, whom none binds
            words += ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
            for name in ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"):
                words += ["--cap-add", name]
        else:
            words += ["--unshare-all"]
        words += [
            "--perms",
            "1777",
            "--size",
            str(SCRATCH),
            "--tmpfs",
            "/tmp",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
        ]
        for folder in sorted({folder for path in self.visible for folder in path.parents[:-1]}):
            words += [
                "--perms",
                "0755",
                "--dir",
                str(folder),
            ]  # where Python lies in a home that is closed to others
        for path in self.visible:
            kind = ["--symlink", os.readlink(path)] if path.is_symlink() else ["--ro-bind", str(path)]
            words += [*kind, str(path)]
        for path in self._masked():
            words += ["--tmpfs", str(path), "--remount-ro", str(path)]
        return [*words, "--chdir", "/tmp"]

    def _masked(self) -> list[Path]:
        """What must not be seen and lies inside of something visible."""
        return [h for h in self.hidden if h.is_dir() and any(h.is_relative_to(v) for v in self.visible)]

    def _script(self) -> str:
        """Makes the new root, enters it and runs what it is given as its child: when that ends, all of it ends."""
        at, quote = str(self.root), shlex.quote
        lines = ["set -e", "umask 022", f"mount -t tmpfs -o size={SCRATCH},mode=755 tmpfs {quote(at)}"]
        lines += [f"cd {quote(at)}", "mkdir -m 1777 tmp", "mkdir proc dev dev/shm", "chmod 1777 dev/shm"]
        for path in self.visible:
            here = quote(f".{path}")
            lines.append(f"mkdir -p {quote(f'.{path.parent}')}")
            if path.is_symlink():
                lines.append(f"ln -s {quote(os.readlink(path))} {here}")
                continue
            lines.append(f"mkdir -p {here}" if path.is_dir() else f"touch {here}")
            lines.append(f"mount --bind {quote(str(path))} {here}")
            lines.append(f"mount -o remount,bind,ro,nosuid,nodev {here}")
        lines += [f"mount -t tmpfs -o ro tmpfs {quote(f'.{path}')}" for path in self._masked()]
        for name in DEVICES:
            lines += [f"touch dev/{name}", f"mount --bind /dev/{name} dev/{name}"]
        lines += ["mount -t proc proc proc", "pivot_root . .", "umount -l .", "cd /tmp", '"$@"']
        return "\n".join(lines)


WAYS = ("bwrap", "unshare", "limits")


def best(checkout: Checkout, hidden: Sequence[Path], root: Path, ways: Sequence[str] = WAYS) -> Sandbox:
    """The first of `ways` that holds here. hidden: folders that no submission may see; root: an empty folder."""
    packages = (checkout.package.parent, *_elsewhere())
    places = [*map(Path, SYSTEM), Path(sys.base_prefix), Path(sys.prefix), *packages]
    visible = tuple(dict.fromkeys(p for p in places if p.exists()))
    visible = tuple(p for p in visible if not any(p != q and p.is_relative_to(q) for q in visible))
    for way in ways:
        box = Sandbox(way, visible, tuple(path.resolve() for path in hidden), root, packages)
        if way == "limits" or _holds(box):
            return box
    raise ValueError(f"None of {ways} holds here.")


def _elsewhere() -> list[Path]:
    """Folders of packages outside of this Python's own: a user's, or one that PYTHONPATH names."""
    specs = (
        importlib.util.find_spec(name) for name in ("IPython", "numpy", "torch", "psutil", "lazy_loader")
    )
    folders = (Path(spec.origin).parents[1] for spec in specs if spec and spec.origin)
    own = (sys.prefix, sys.base_prefix)
    return [f for f in dict.fromkeys(folders) if not any(f.is_relative_to(prefix) for prefix in own)]


def _holds(box: Sandbox) -> bool:
    """Whether something runs inside, and reaches nothing of what it must not."""
    if not shutil.which(box.way) or sys.platform != "linux":
        return False
    with socket.create_server(("127.0.0.1", 0)) as server:
        asked = json.dumps([[str(path) for path in box.hidden], server.getsockname()[1]])
        words = box.command([sys.executable, "-P", "-c", PROBE, asked], 0)
        try:
            done = subprocess.run(
                words,
                env=box.environment("/tmp"),
                cwd="/",
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=30,
            )
            return not any(json.loads(done.stdout).values())
        except (OSError, ValueError, subprocess.TimeoutExpired):
            return False
