"""The right to schedule on a home, and the workers to do it with. Light: a command has its workers start before it imports more."""

from __future__ import annotations

import threading
from collections.abc import Callable

from paddock.model.dataclass import dataclass
from paddock.runtime.engines.engine import Engine
from paddock.runtime.engines.local import LocalEngine, WorkerOptions
from paddock.versions.home import Home
from paddock.versions.locks import Lock

SCHEDULER_LOCK = "scheduler"


@dataclass(slots=True)
class Workshop:
    """One per home at a time: the holder of the home's scheduler lock, with an engine whose workers may run already."""

    lock: Lock
    engine: Engine
    _closing: threading.Thread | None = None
    _failure: BaseException | None = None

    @classmethod
    def open(
        cls, home: Home, *, options: WorkerOptions, join: Callable[[LocalEngine], Engine] | None = None
    ) -> Workshop | None:
        """None while another process (or another holder here) has the home's. No worker runs yet.

        join: puts workers of other machines beside the own ones.
        """
        lock = home.try_lock(SCHEDULER_LOCK)
        if lock is None:
            return None
        try:
            engine = LocalEngine(
                objects=home.objects_place, scratch=home.path / "scratch", chunking=home.chunking, options=options
            )
        except BaseException:
            lock.release()
            raise
        return cls(lock, engine if join is None else join(engine))

    def discard(self) -> None:
        """Close one whose workers were given nothing to do: nobody waits for those that are still starting."""
        for worker in self.engine.workers():
            self.engine.kill(worker)
        self.close()

    def begin_closing(self) -> None:
        """Begin to `close` in a thread of its own: workers take some 0.1 s to end. `close` is still to be called."""
        self._closing = threading.Thread(target=self._close_later, name="paddock-workshop")
        self._closing.start()

    def close(self) -> None:
        """End the workers, and let others have the home's lock."""
        if self._closing is None:
            self._close()
            return
        self._closing.join()
        if self._failure is not None:
            raise self._failure

    def _close(self) -> None:
        try:
            self.engine.stop()
        finally:
            self.lock.release()

    def _close_later(self) -> None:
        try:
            self._close()
        except BaseException as error:  # noqa: BLE001 - raised by `close`, in the thread that can act on it
            self._failure = error
