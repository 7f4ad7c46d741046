"""Put a datum's input files, and a transform's code, in place as plain files; every byte is verified on the way."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from paddock.model.errors import Corrupt, InvalidInput
from paddock.model.ids import Digest
from paddock.model.records import Location
from paddock.runtime.protocol import Cut, FileTask, InputTask
from paddock.storage.os_errors import translate

ReadChunk = Callable[[Digest, Location], bytes]
"""Read one chunk, verified: NotFound, Corrupt or Unavailable name it."""

CODE_FOLDER = ".code"
OUT_FOLDER = "out"
ENVIRONMENT_FILE = ".env"
_RESERVED = frozenset((CODE_FOLDER, OUT_FOLDER, ENVIRONMENT_FILE, ".", "..", ""))


class Placed(NamedTuple):
    """A file that is in place. empty: with none of its bytes (`empty_files`)."""

    file: FileTask
    empty: bool

    @property
    def bytes(self) -> int:
        """How long it is where it lies."""
        return 0 if self.empty else self.file.size


class InputFolder:
    """The inputs below `/pfs`. `root` is its path for the worker, who may write there while user code may not.

    `place` changes only what differs between one datum and the next, so a file that many datums of a cross
    share is written once. `protected`: user code cannot write to inputs (namespaces). Where it is not, files
    are made read-only by mode, and everything is written afresh for every try. `tick` is called often. Not
    thread-safe.
    """

    def __init__(self, root: str, read_chunk: ReadChunk, *, protected: bool, tick: Callable[[], object]) -> None:
        self._root = root
        self._read_chunk = read_chunk
        self._tick = tick
        self._protected = protected
        self._folders: set[str] = set()
        self.present: dict[str, Placed] = {}
        """What is in place now, by path below the root: `images/cats/a.png`."""

    def place(self, inputs: Sequence[InputTask]) -> None:
        """Make the inputs exactly those of one datum. Cost: its files, and the bytes that are not there yet.

        InvalidInput: an input has a reserved name. Corrupt, NotFound, Unavailable: a chunk cannot be read.
        LimitExceeded: the scratch disk is full. After an error call `clear`.
        """
        if len(inputs) == len(self.present) == 1 and self._protected and self._write_over(inputs[0]):
            return
        wanted, folders = _wanted(inputs)
        if not self._protected:
            self.clear()
        stale = {path: placed for path, placed in self.present.items() if wanted.get(path) != placed}
        fresh = [item for item in wanted.items() if item[0] not in self.present or item[0] in stale]
        for path in stale:
            del self.present[path]
        # A file is made by writing over one that goes, where no directory changes: some file systems (ext4 without
        # a journal) are slow to make files where many were removed lately.
        spares = _Spares(self._root, stale if folders == self._folders else {})
        if folders != self._folders:
            self._change_folders(stale, folders)
        for path, placed in fresh:
            self._tick()
            target = f"{self._root}/{path}"
            old = spares.take(path, placed)
            write_file(target, placed, self._read_chunk, protected=self._protected, over=old)
            self.present[path] = placed
        spares.remove()
        if not self._protected:
            for folder in sorted(self._folders, reverse=True):
                os.chmod(f"{self._root}/{folder}", 0o555)

    def _write_over(self, each: InputTask) -> bool:
        """Turn the one file that is in place into the one file of an input, where that is in the same directory and there are no
        other directories; whether it is.

        What `place` would do, for datums that are no more than this.
        """
        if len(each.files) != 1:
            return False
        placed = Placed(each.files[0], each.empty_files)
        path = each.name + placed.file.path
        [(old_path, old)] = self.present.items()
        beside = path.rpartition("/")[0] == old_path.rpartition("/")[0] and path.count("/") == len(self._folders)
        if not beside or path == old_path or old.file.executable != placed.file.executable:
            return False
        target = f"{self._root}/{path}"
        os.rename(f"{self._root}/{old_path}", target)
        self.present.clear()
        write_file(target, placed, self._read_chunk, over=old)
        self.present[path] = placed
        return True

    def clear(self) -> None:
        """Remove all inputs, whatever user code has done to them."""
        self.present.clear()
        for folder in sorted(self._folders):
            if "/" not in folder:
                remove_tree(f"{self._root}/{folder}")
        self._folders.clear()

    def _change_folders(self, stale: Iterable[str], folders: set[str]) -> None:
        """Remove the files `stale`, then directories that are wanted no more; make those that are."""
        for path in stale:
            os.unlink(f"{self._root}/{path}")
        for folder in sorted(self._folders - folders, reverse=True):
            self._folders.remove(folder)
            os.rmdir(f"{self._root}/{folder}")
        for folder in sorted(folders - self._folders):
            _make_folder(f"{self._root}/{folder}")
            self._folders.add(folder)


class _Spares:
    """Files that are wanted no more, to be written over. Only for files that user code cannot have linked or opened."""

    def __init__(self, root: str, stale: Mapping[str, Placed]) -> None:
        self._root = root
        self._stale = dict(stale)

    def take(self, path: str, placed: Placed) -> Placed | None:
        """Put an old file at `path`, to be written over, if there is a fitting one: what it is."""
        old = self._stale.pop(path, None)
        if old is not None:
            if old.file.executable == placed.file.executable:
                return old
            os.unlink(f"{self._root}/{path}")
            return None
        for spare, old in self._stale.items():
            if old.file.executable == placed.file.executable:
                os.rename(f"{self._root}/{spare}", f"{self._root}/{path}")
                del self._stale[spare]
                return old
            break
        return None

    def remove(self) -> None:
        """Remove what was not taken."""
        for path in self._stale:
            os.unlink(f"{self._root}/{path}")


class CodeFolder:
    """The code directory of the transform at work, at `/pfs/.code`; replaced when another transform takes over."""

    def __init__(self, root: str, read_chunk: ReadChunk, *, protected: bool) -> None:
        self._path = f"{root}/{CODE_FOLDER}"
        self._read_chunk = read_chunk
        self._protected = protected
        self._transform = ""

    def place(self, transform: str, files: Sequence[FileTask] | None) -> None:
        """Put the files of `transform` in place, unless they are; None removes the directory. Errors as for inputs."""
        if transform == self._transform:
            return
        self._transform = ""
        if os.path.lexists(self._path):
            remove_tree(self._path)
        if files is not None:
            folders = {parent for file in files for parent in _parents(file.path.strip("/"))}
            for folder in ["", *sorted(folders)]:
                _make_folder(f"{self._path}/{folder}")
            for file in files:
                placed = Placed(file, empty=False)
                write_file(f"{self._path}{file.path}", placed, self._read_chunk, protected=self._protected)
        self._transform = transform


def file_content(file: FileTask, read_chunk: ReadChunk) -> Iterable[bytes | memoryview]:
    """The bytes of a file or of a piece of one, in parts. Raises what `read_chunk` raises."""
    if file.cut is not None:
        return _piece_content(file, file.cut, read_chunk)
    if len(file.chunks) == 1:
        return (read_chunk(*file.chunks[0]),)
    return (read_chunk(digest, location) for digest, location in file.chunks)


def _piece_content(file: FileTask, cut: Cut, read_chunk: ReadChunk) -> Iterator[bytes | memoryview]:
    skip, head, tail = cut
    yield head
    left = file.size - len(head) - len(tail)
    for digest, location in file.chunks:
        part = memoryview(read_chunk(digest, location))[skip : skip + left]
        skip = 0
        left -= len(part)
        yield part
    yield tail


def write_file(
    target: str, placed: Placed, read_chunk: ReadChunk, *, protected: bool = True, over: Placed | None = None
) -> None:
    """Write one file: over the one that is there, as it was placed, else a new one.

    Corrupt if its chunks have not the size that its row says. LimitExceeded: the disk is full.
    """
    file = placed.file
    mode = (0o644 if protected else 0o444) | (0o111 if file.executable else 0)
    flags = 0 if over is not None else os.O_CREAT | os.O_EXCL
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, mode)
        try:
            written = 0
            for part in () if placed.empty else file_content(file, read_chunk):
                written += len(part)
                done = os.write(descriptor, part)
                while done < len(part):
                    done += os.write(descriptor, memoryview(part)[done:])
            if over is not None and over.bytes > written:
                os.ftruncate(descriptor, written)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise translate(error, "write the input file", target) from error
    if written != file.size and not placed.empty:
        raise Corrupt(f"file {file.path} has {written} bytes in its chunks, but {file.size} in its tree; run fsck")


def remove_tree(path: str) -> None:
    """Remove a file or directory tree, whatever modes user code has left there. Does nothing where there is none."""
    try:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    except FileNotFoundError:
        return
    except PermissionError:
        for folder in _folders_below(path):
            os.chmod(folder, stat.S_IRWXU)
        shutil.rmtree(path)
    except (RecursionError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.EMFILE, errno.ENAMETOOLONG):
            raise
        # Nested deeper than Python or the descriptor limit allow; rm(1) copes with any depth.
        os.waitpid(os.posix_spawnp("rm", ("rm", "-rf", "--", path), os.environ), 0)


def _folders_below(path: str) -> Iterator[str]:
    """`path` and the directories below it, each before what it holds; the caller makes each readable in turn."""
    yield path
    with os.scandir(path) as entries:
        folders = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    for folder in folders:
        yield from _folders_below(folder)


def _wanted(inputs: Sequence[InputTask]) -> tuple[dict[str, Placed], set[str]]:
    """Files by path below the root, and all directories that they need."""
    wanted: dict[str, Placed] = {}
    folders: set[str] = set()
    for each in inputs:
        if each.name in _RESERVED or "/" in each.name:
            raise InvalidInput(f"an input may not be called {each.name!r}; give it another name in the spec")
        folders.add(each.name)
        for file in each.files:
            path = each.name + file.path
            wanted[path] = Placed(file, each.empty_files)
            if "/" in file.path[1:]:
                folders.update(_parents(path))
    return wanted, folders


def _parents(path: str) -> Iterator[str]:
    """`a/b/c` gives `a/b`, then `a`."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _make_folder(path: str) -> None:
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise translate(error, "make the directory", path) from error
