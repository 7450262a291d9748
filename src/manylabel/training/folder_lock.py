"""One training at a time in a folder: a lock that says who holds it and ends with its process.

Called by training/run_folder.py; training/checkpoints.py asks it which processes are gone. The system's own file
lock is what counts (released whatever way a process ends, and shared over NFS on Linux); the JSON in the file is for
the message. Where there is no such lock, the process in the JSON is looked up instead.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

from manylabel.errors import Finding, UsageError

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows.
    fcntl = None

ATTEMPTS = 20
SECONDS_BETWEEN = 0.02
"""A lock that vanishes or has no content yet belongs to a process that ends or starts in this moment."""
BUSY = frozenset({errno.EAGAIN, errno.EACCES})
WITHOUT_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL})
_descriptors: set[int] = set()
"""Of the locks this process holds. A fork closes them, or a child that outlives its parent would keep the folder."""


def _close_inherited() -> None:
    while _descriptors:
        os.close(_descriptors.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)


@dataclass(frozen=True)
class Owner:
    """A process: number, machine, when it took the lock (UTC) and, where the system tells, when it was begun.

    `begun` is the machine's boot and the clock ticks after it; by it a process number that is used again is known.
    """

    pid: int
    host: str
    started: str
    begun: str | None

    def is_gone(self) -> bool:
        """Whether the process ended for certain; of another machine nothing is known."""
        if self.host != platform.node():
            return False
        if not is_running(self.pid):
            return True
        begun = _begun(self.pid)
        return None not in {self.begun, begun} and self.begun != begun


def this_process() -> Owner:
    """Who asks."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Owner(os.getpid(), platform.node(), now, _begun(os.getpid()))


def is_running(pid: int) -> bool:
    """Whether a process with this number is on this machine; yes where that cannot be found out."""
    if os.name != "posix":
        return True  # Elsewhere the call below would end the process.
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


class FolderLock:
    """The lock of one folder."""

    def __init__(self, path: Path) -> None:
        """Nothing is locked yet; `path` is the lock file in the folder."""
        self._path = path
        self._descriptor: int | None = None
        self._owner: Owner | None = None

    def acquire(self) -> None:
        """Take the lock, also that of a process which is gone.

        Raises UsageError naming the process that holds it, or when the file cannot be written; under a second.
        """
        for _ in range(ATTEMPTS):
            try:
                if self._try_once():
                    return
            except FileNotFoundError:
                self._path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UsageError(
                    Finding("U221", str(self._path), f"it cannot be written ({error.strerror})",
                            "a folder you may write to", "choose another --out")
                ) from error  # fmt: skip
            time.sleep(SECONDS_BETWEEN)
        raise UsageError(_in_use(self._path, _read_owner(self._path)))

    def release(self) -> None:
        """Let others in; nothing happens in a process that was forked from the owner, or the second time."""
        if self._owner is None or self._owner.pid != os.getpid():
            return
        if self._descriptor is not None or _read_owner(self._path) == self._owner:
            self._path.unlink(missing_ok=True)
        if self._descriptor is not None:
            _descriptors.discard(self._descriptor)
            os.close(self._descriptor)
        self._descriptor = self._owner = None

    def _try_once(self) -> bool:
        """Whether the lock was taken; False to try again. Raises OSError and UsageError."""
        try:
            descriptor, is_new = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644), True
        except FileExistsError:
            descriptor, is_new = os.open(self._path, os.O_RDWR), False
        kept = False
        try:
            locked = _lock(descriptor)
            if locked is None:
                return self._without_lock(descriptor, is_new)
            if not locked:
                if owner := _read_owner(self._path):
                    raise UsageError(_in_use(self._path, owner))
                return False
            if not self._is_path_of(descriptor):
                return False  # The former owner removed the file between our two calls.
            self._write(descriptor)
            self._descriptor, kept = descriptor, True
            _descriptors.add(descriptor)
            return True
        finally:
            if not kept:
                os.close(descriptor)

    def _without_lock(self, descriptor: int, is_new: bool) -> bool:
        """Take a new file, or remove that of a process which is gone, to try again."""
        if is_new:
            self._write(descriptor)
            return True
        owner = _read_owner(self._path)
        if owner is None:
            return False
        if not owner.is_gone():
            raise UsageError(_in_use(self._path, owner))
        aside = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        self._path.rename(aside)
        if _read_owner(aside) == owner:
            aside.unlink()
        else:  # Another process was quicker; the file is its own.
            aside.rename(self._path)
        return False

    def _is_path_of(self, descriptor: int) -> bool:
        return os.path.samestat(os.fstat(descriptor), self._path.stat())

    def _write(self, descriptor: int) -> None:
        self._owner = this_process()
        os.ftruncate(descriptor, 0)
        os.write(descriptor, (json.dumps(asdict(self._owner)) + "\n").encode())


def _lock(descriptor: int) -> bool | None:
    """Whether the file was locked, False if another has it, None where the system has no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in BUSY:
            return False
        if error.errno in WITHOUT_LOCKS:
            return None
        raise
    return True


def _read_owner(path: Path) -> Owner | None:
    """Who is named in the file; None when it is not there or not whole."""
    try:
        content = json.loads(path.read_bytes())
        return Owner(int(content["pid"]), str(content["host"]), str(content["started"]), content["begun"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _in_use(path: Path, owner: Owner | None) -> Finding:
    who, next_step = "another process", f"if no training runs there, remove {path.name} in it"
    if owner is not None:
        who = f"process {owner.pid} on {owner.host}, since {owner.started}"
        next_step = "wait until it ends, stop it, or choose another --out"
        if owner.host != platform.node():
            next_step += f"; if that process is gone, remove {path.name} in it"
    found = f"another training writes to it ({who})"
    return Finding("U220", str(path.parent), found, "one training at a time", next_step)


def _begun(pid: int) -> str | None:
    """Boot and clock ticks after it at which a process began; None where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        # Field 22 of proc(5); the second one is a name in brackets which may hold spaces and brackets.
        return f"{boot}/{fields.rpartition(')')[2].split()[19]}"
    except (OSError, IndexError):
        return None
