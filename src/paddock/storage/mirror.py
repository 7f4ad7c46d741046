"""Making a target directory equal to a tree, touching only what Paddock wrote there."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import field
from enum import Enum

from paddock.model.dataclass import dataclass
from paddock.model.errors import Conflict, Problem
from paddock.model.ids import Digest
from paddock.storage.chunking import ChunkingParameters
from paddock.storage.local_files import local_digest
from paddock.storage.mirror_manifest import Manifest, Written
from paddock.storage.os_errors import translate
from paddock.storage.output_files import OutputFile
from paddock.storage.target_directory import TargetDirectory
from paddock.storage.transfer_progress import TransferProgress

PROBLEMS_SHOWN = 20

WriteFiles = Callable[[Iterable[OutputFile]], Iterator[tuple[OutputFile, os.stat_result]]]


class _Verdict(Enum):
    KEEP = "as it should be"
    WRITE = "missing, outdated or modified"
    FOREIGN = "not ours, and different"


@dataclass(slots=True)
class _Plan:
    write: list[OutputFile] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    remove: list[str] = field(default_factory=list)


class Mirror:
    """One run. The manifest is saved before the first change and after the last, whatever happens between."""

    def __init__(
        self,
        output: TargetDirectory,
        root: str,
        manifest: Manifest,
        chunking: ChunkingParameters,
        progress: TransferProgress,
    ) -> None:
        self._output = output
        self._root = root
        self._manifest = manifest
        self._chunking = chunking
        self._progress = progress

    def run(self, files: Sequence[OutputFile], write: WriteFiles, *, force: bool) -> tuple[int, int]:
        """Make the target hold the files; (files written, files removed). Conflict lists files in the way; nothing is changed then."""
        plan = self._plan(files)
        if plan.foreign and not force:
            raise _conflict(self._root, plan.foreign)
        manifest = self._manifest
        manifest.intended = {file.path: file.digest for file in plan.write}
        if plan.write or plan.remove:
            manifest.save()
        try:
            for path in plan.remove:
                self._remove(path)
            for file, status in write(plan.write):
                manifest.files[file.path] = Written.of(file.digest, status)
                del manifest.intended[file.path]
        finally:
            manifest.save()
        return len(plan.write), len(plan.remove)

    def _plan(self, files: Sequence[OutputFile]) -> _Plan:
        plan = _Plan()
        manifest = self._manifest
        wanted = {file.path for file in files}
        gone = [path for path in (*manifest.files, *manifest.intended) if path not in wanted]
        plan.remove = [path for path in gone if self._is_ours(path)]
        emptied = _directories_of(plan.remove)
        for file in files:
            verdict = self._judge(file, emptied)
            if verdict is _Verdict.KEEP:
                self._progress.advance(1, file.size)
                continue
            plan.write.append(file)
            if verdict is _Verdict.FOREIGN:
                plan.foreign.append(file.path)
        for path in set(gone).difference(plan.remove):
            manifest.files.pop(path, None)
        return plan

    def _judge(self, file: OutputFile, emptied: set[str]) -> _Verdict:
        status = self._status(file.path)
        if status is None:
            return _Verdict.WRITE
        if stat.S_ISDIR(status.st_mode):
            return _Verdict.WRITE if file.path in emptied else _Verdict.FOREIGN
        written = self._manifest.files.get(file.path)
        alike = bool(status.st_mode & stat.S_IXUSR) == file.executable
        if written is not None:
            kept = alike and written.digest == file.digest and written.is_untouched(status)
            return _Verdict.KEEP if kept else _Verdict.WRITE
        found = self._digest(file.path, status)
        if found == file.digest:
            if not alike:
                return _Verdict.WRITE
            self._manifest.files[file.path] = Written.of(file.digest, status)
            return _Verdict.KEEP
        interrupted = found is not None and found == self._manifest.intended.get(file.path)
        return _Verdict.WRITE if interrupted else _Verdict.FOREIGN

    def _is_ours(self, path: str) -> bool:
        """Whether a file is there as we left it, or as we were about to leave it."""
        status = self._status(path)
        if status is None:
            return False
        written = self._manifest.files.get(path)
        if written is not None and written.is_untouched(status):
            return True
        intended = self._manifest.intended.get(path)
        return intended is not None and self._digest(path, status) == intended

    def _remove(self, path: str) -> None:
        try:
            self._output.remove(path)
        except Conflict:
            pass  # a directory above it has become a link: what lies behind is not ours
        else:
            self._output.remove_empty(path.rpartition("/")[0])
        self._manifest.files.pop(path, None)

    def _status(self, path: str) -> os.stat_result | None:
        try:
            return os.lstat(f"{self._root}/{path}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise translate(error, "look at", f"{self._root}/{path}") from error

    def _digest(self, path: str, status: os.stat_result) -> Digest | None:
        """The digest of a regular file's content; None for anything else."""
        return local_digest(f"{self._root}/{path}", self._chunking) if stat.S_ISREG(status.st_mode) else None


def _directories_of(paths: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for path in paths:
        directory = path.rpartition("/")[0]
        while directory and directory not in found:
            found.add(directory)
            directory = directory.rpartition("/")[0]
    return found


def _conflict(root: str, paths: Sequence[str]) -> Conflict:
    shown = [Problem(f"{root}/{path}", "is there, differs, and is not Paddock's") for path in paths[:PROBLEMS_SHOWN]]
    if len(paths) > PROBLEMS_SHOWN:
        shown.append(Problem("", f"… and {len(paths) - PROBLEMS_SHOWN} more"))
    count = "1 file" if len(paths) == 1 else f"{len(paths)} files"
    return Conflict(
        f"{root} has {count} in the way that Paddock did not write; move them away, or choose another target",
        problems=tuple(shown),
    )
