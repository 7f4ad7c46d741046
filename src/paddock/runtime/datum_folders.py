"""Where the files of a slot's datums lie: on disk, or in memory for those that are small by all that is known of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from paddock.model.dataclass import dataclass
from paddock.model.records import DatumState
from paddock.runtime import sandbox
from paddock.runtime.batch_format import DatumOutcome
from paddock.runtime.materialize import CodeFolder, InputFolder, ReadChunk
from paddock.runtime.protocol import DatumTask, TransformTask

_INPUT_BYTES_MAX = 4 << 20
_OUTPUT_BYTES_MAX = 1 << 20
_CODE_BYTES_MAX = 8 << 20
_SECONDS_MAX = 1.0


class DatumFolders:
    """The inputs and the code below `/pfs` of one slot, of which there is one set on disk and one in memory.

    Making and removing a file costs some 10 µs in memory, 50 on a disk, and 700 where an ext4 without journal has removed a
    thousand shortly before. `use` chooses which of the two `/pfs` shows. Not thread-safe.
    """

    def __init__(
        self, slot: Path, root: str, read_chunk: ReadChunk, *, protected: bool, memory: bool, tick: Callable[[], object]
    ) -> None:
        """slot: the worker's scratch directory. root: `/pfs` by the path where the worker writes. memory: the slot has
        some (see `sandbox.enter_private_root`)."""
        self._slot = slot
        self._has_memory = memory
        self.in_memory = False
        self.inputs = InputFolder(root, read_chunk, protected=protected, tick=tick)
        self.code = CodeFolder(root, read_chunk, protected=protected)
        self._hidden = (
            InputFolder(root, read_chunk, protected=protected, tick=tick),
            CodeFolder(root, read_chunk, protected=protected),
        )

    def use(self, *, memory: bool) -> bool:
        """Let `/pfs` be in memory or on disk; whether that is a change. A change removes the inputs, and costs 0.1 ms.

        `/pfs/out` must be empty. SandboxError: the system refuses, and the slot is of no more use.
        """
        if not self._has_memory or memory == self.in_memory:
            return False
        self.inputs.clear()
        if memory:
            sandbox.show_memory(self._slot)
        else:
            sandbox.show_disk(self._slot)
        self.in_memory = memory
        (self.inputs, self.code), self._hidden = self._hidden, (self.inputs, self.code)
        return True


@dataclass(slots=True)
class SizeHistory:
    """What the datums of one transform have come to on this worker: whether the next one may run in memory.

    The first runs on disk, and so do those with large inputs. One that needed more than there is makes all later ones run on disk.
    """

    _small: bool = False
    _outgrown: bool = False

    @classmethod
    def of(cls, task: TransformTask) -> SizeHistory:
        code_bytes = sum(file.size for file in task.code or ())
        return cls(_outgrown=code_bytes > _CODE_BYTES_MAX)

    def suits_memory(self, datum: DatumTask) -> bool:
        if not self._small or self._outgrown:
            return False
        size = sum([file.size for each in datum.inputs if not each.empty_files for file in each.files])
        return size <= _INPUT_BYTES_MAX

    def note(self, outcome: DatumOutcome) -> None:
        """Take a datum that has ended into account."""
        if outcome.state is DatumState.SUCCESS:
            output_bytes = sum([file.size for file in outcome.files])
            self._small = outcome.seconds <= _SECONDS_MAX and output_bytes <= _OUTPUT_BYTES_MAX

    def outgrow(self) -> None:
        """A datum did not fit into memory."""
        self._outgrown = True
