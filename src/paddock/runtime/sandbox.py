"""A private root for user code: its own mount and PID namespaces, made through `ctypes`, without any helper program.

`enter_namespaces()` is called by the guardian (it unshares; its next child is process 1 of the new PID
namespace), then `enter_private_root()` by that child. Afterwards the child sees the machine as before, plus
`/pfs`, of which only `/pfs/out` can be written, and minus every process but its own descendants. Nothing is
created in the host's root directory, and the kernel undoes everything when the last process of the namespace
is gone.

This keeps datums apart and results reproducible. It is not a security boundary: user code runs as the user
who started Paddock and may use everything else that this user may.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from paddock.model.dataclass import dataclass

PFS = "/pfs"
MEMORY_BYTES = 64 << 20
"""Room for the files of one datum at a time; taken only where there are some."""

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWPID = 0x20000000

_MS_RDONLY = 1
_MS_NOSUID = 2
_MS_NODEV = 4
_MS_NOEXEC = 8
_MS_REMOUNT = 32
_MS_NOATIME = 1024
_MS_NODIRATIME = 2048
_MS_BIND = 4096
_MS_REC = 16384
_MS_UNBINDABLE = 1 << 17
_MS_PRIVATE = 1 << 18
_MS_RELATIME = 1 << 21
_MNT_DETACH = 2

# An unprivileged user may not drop these flags of a mount that he inherited, so a remount repeats them.
_KEPT_FLAGS = ((2, _MS_NOSUID), (4, _MS_NODEV), (8, _MS_NOEXEC), (1024, _MS_NOATIME), (2048, _MS_NODIRATIME))
_ST_RELATIME = 4096

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}

_libc = ctypes.CDLL(None, use_errno=True)


class SandboxError(Exception):
    """The system forbids a step; the message says which step and why. Caught by the worker, which falls back."""


@dataclass(frozen=True, slots=True)
class PrivateRoot:
    """What `enter_private_root` made. left_out: entries of `/` that could not be shown in the private root.

    memory: whether `show_memory` may be called.
    """

    left_out: tuple[str, ...]
    memory: bool


def enter_namespaces() -> None:
    """Move the calling process to new mount (and, where it is not root, user) namespaces; its children to a
    new PID one.

    Raises SandboxError; the process may then already be in a new user namespace, with the same user and group
    ids, which changes nothing for the fallback except that set-user-id programs lose their effect.
    """
    user, group = os.geteuid(), os.getegid()
    if user != 0:
        _unshare(_CLONE_NEWUSER, "a user namespace")
        _write_id_maps(user, group)
    _unshare(_CLONE_NEWNS | _CLONE_NEWPID, "mount and PID namespaces")


def enter_private_root(slot: Path) -> PrivateRoot:
    """Give the calling process a new root in which `slot/pfs` is `/pfs`, read-only except `/pfs/out`.

    `slot` holds `root/` (empty) and `pfs/out/`, and gets `memory/` (see `show_memory`). Files that are written below `slot/pfs` by their host path
    appear in `/pfs` at once, so no further mount is needed per datum. Must run in the namespaces of
    `enter_namespaces`. Raises SandboxError; the process is then of no more use for user code and should end.
    """
    root = slot / "root"
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE, "make mounts private")
    _mount("paddock", str(root), "tmpfs", _MS_NOSUID | _MS_NODEV, "mount a private root", data="size=1m,mode=755")
    _mount(None, str(root), None, _MS_UNBINDABLE, "keep the private root out of its own picture")
    memory = _make_memory(slot)
    left_out = _show_host(root)
    _show_proc(root)
    pfs = root / "pfs"
    pfs.mkdir()
    _show_pfs(slot / "pfs", pfs)
    _make_read_only(root)
    _pivot(root)
    return PrivateRoot(left_out, memory)


def show_memory(slot: Path) -> None:
    """Put a file system in memory over `/pfs` and over `slot/pfs`. What it holds stays from one time to the next.

    Only after `enter_private_root`, by the process that called it, and not twice without `show_disk`. Raises SandboxError.
    """
    _bind(slot / "memory", slot / "pfs")
    _show_pfs(slot / "memory", Path(PFS))


def show_disk(slot: Path) -> None:
    """Undo `show_memory`. Processes that have files in memory open keep them."""
    for place in (PFS, str(slot / "pfs")):
        if _libc.umount2(place.encode(), _MNT_DETACH) != 0:
            raise _refused(f"unmount {place}")


def die_with_parent(signal_number: int) -> None:
    """Ask the kernel to send this process `signal_number` when the thread that forked it ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends (child subreaper)."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _write_id_maps(user: int, group: int) -> None:
    """Map the user and group onto themselves, so that files keep their owners and programs see who they run as."""
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    except OSError as error:
        raise SandboxError(f"the system refuses to map the user id: {error.strerror}") from None


def _show_host(root: Path) -> tuple[str, ...]:
    """Bind every top-level entry of `/` into `root`, with all that is mounted below it; links are made again."""
    left_out: list[str] = []
    with os.scandir("/") as entries:
        for entry in sorted(entries, key=lambda each: each.name):
            if entry.path in (PFS, "/proc"):
                continue
            target = root / entry.name
            try:
                if entry.is_symlink():
                    target.symlink_to(Path(entry.path).readlink())
                    continue
                if entry.is_dir():
                    target.mkdir()
                else:
                    target.touch()
                _bind(Path(entry.path), target)
            except (SandboxError, OSError):
                left_out.append(entry.path)
    return tuple(left_out)


def _make_memory(slot: Path) -> bool:
    """Make `slot/memory` a file system in memory; whether the system allows it."""
    memory = slot / "memory"
    memory.mkdir(exist_ok=True)
    data = f"size={MEMORY_BYTES},mode=755"
    try:
        _mount("paddock", str(memory), "tmpfs", _MS_NOSUID | _MS_NODEV, "mount memory", data=data)
    except SandboxError:
        return False
    (memory / "out").mkdir()
    return True


def _show_pfs(source: Path, pfs: Path) -> None:
    """Show `source` at `pfs`, of which only `out` can be written."""
    _bind(source, pfs)
    _make_read_only(pfs)
    _bind(source / "out", pfs / "out")


def _show_proc(root: Path) -> None:
    """A `/proc` of the new PID namespace; inside a container that hides parts of it, the one that is there."""
    target = root / "proc"
    target.mkdir()
    try:
        _mount("proc", str(target), "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, "mount /proc")
    except SandboxError:
        _bind(Path("/proc"), target)


def _bind(source: Path, target: Path) -> None:
    _mount(str(source), str(target), None, _MS_BIND | _MS_REC, f"bind {source}")


def _make_read_only(target: Path) -> None:
    inherited = os.statvfs(target).f_flag
    flags = _MS_REMOUNT | _MS_BIND | _MS_RDONLY
    for shown, flag in _KEPT_FLAGS:
        if inherited & shown:
            flags |= flag
    if inherited & _ST_RELATIME:
        flags |= _MS_RELATIME
    _mount(None, str(target), None, flags, f"make {target.name} read-only")


def _pivot(root: Path) -> None:
    """Make `root` the root and forget the old one; both at `.`, so that no directory for the old root is needed."""
    number = _SYS_PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise SandboxError(f"no pivot_root call is known for {os.uname().machine} processors")
    os.chdir(root)
    if _libc.syscall(ctypes.c_long(number), b".", b".") != 0:
        raise _refused("change the root")
    if _libc.umount2(b".", _MNT_DETACH) != 0:
        raise _refused("leave the old root")
    os.chdir("/")


def _unshare(flags: int, what: str) -> None:
    if _libc.unshare(flags) != 0:
        raise _refused(f"make {what}")


def _mount(source: str | None, target: str, kind: str | None, flags: int, what: str, *, data: str = "") -> None:
    result = _libc.mount(
        None if source is None else os.fsencode(source),
        os.fsencode(target),
        None if kind is None else kind.encode(),
        ctypes.c_ulong(flags),
        data.encode() if data else None,
    )
    if result != 0:
        raise _refused(what)


def _refused(what: str) -> SandboxError:
    return SandboxError(f"the system refuses to {what}: {os.strerror(ctypes.get_errno())}")
