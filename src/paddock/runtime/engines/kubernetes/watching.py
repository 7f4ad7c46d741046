"""The pods of one home as they are known here: listed once, then watched by a thread."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable

from paddock.model.errors import Bug, PaddockError, Unavailable
from paddock.runtime.engines.kubernetes.client import KubernetesClient, VersionGoneError
from paddock.runtime.engines.kubernetes.objects import Object, Resource

STALE_SECONDS = 30.0
"""Out of touch for longer, what is known is not told any more."""
CONFIRM_SECONDS = 10.0
FIRST_SECONDS = 10.0
"""How long the first list may take."""
BACKOFF_SECONDS_MAX = 15.0
SHORT_SECONDS = 0.2
"""A watch that ends sooner is not taken up at once: something in between ends them all."""
REMEMBERED_MAX = 10_000

LOG = logging.getLogger("paddock")


class PodView:
    """Thread-safe. A pod that is gone is known until `take_gone` has told of it."""

    def __init__(
        self,
        client: KubernetesClient,
        pods: Resource,
        *,
        labels: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """labels: a selector of the pods that count."""
        self._client = client
        self._resource = pods
        self._labels = labels
        self._monotonic = monotonic
        self.changed = threading.Condition()
        """Notified after each change of what is known, and after each failure."""
        self._pods: dict[str, Object] = {}
        self._gone: dict[str, Object] = {}
        self._ended_names: deque[str] = deque(maxlen=REMEMBERED_MAX)
        self._added: dict[str, tuple[int, float]] = {}
        """What we made and no list or watch has shown yet: during or after which list, and when."""
        self._lists = 0
        self._error: PaddockError | None = None
        self._out_since: float | None = None
        self._listed = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kubernetes-pods", daemon=True)
        self._thread.start()

    def pods(self) -> list[Object]:
        """What is known. Unavailable, PermissionDenied, InvalidInput: the API server does not tell, for this reason."""
        with self.changed:
            self.changed.wait_for(lambda: self._listed or self._error is not None, FIRST_SECONDS)
            out = self._out_since
            stale = out is not None and self._monotonic() - out > STALE_SECONDS
            if not self._listed or stale:
                raise self._error or Unavailable(
                    "the Kubernetes API server has not listed the pods yet; it is asked again"
                )
            return list(self._pods.values())

    def take_gone(self) -> list[Object]:
        """The last state of pods that are gone, each told of once."""
        with self.changed:
            gone = list(self._gone.values())
            self._gone.clear()
            return gone

    def add(self, pod: Object) -> None:
        """A pod that was just made: known at once, before the watch tells of it (it may have told of its end, too)."""
        name = pod["metadata"]["name"]
        with self.changed:
            if name not in self._pods and name not in self._ended_names:
                self._pods[name] = pod
                self._added[name] = (self._lists, self._monotonic())

    def unconfirmed(self) -> list[str]:
        """Pods that were made a while ago, and that the API server has not shown since: gone before it could."""
        with self.changed:
            limit = self._monotonic() - CONFIRM_SECONDS
            return [name for name, (_, made) in self._added.items() if made < limit]

    def confirm(self, name: str, found: Object | None) -> None:
        """What became of such a pod; None: it is gone."""
        with self.changed:
            if self._added.pop(name, None) is None:
                return
            if found is None:
                self._lose(name, self._pods[name])
            else:
                self._pods[name] = found

    def stop(self) -> None:
        """Watch no more. The client has to be closed, too, for the thread to notice at once."""
        self._stopped.set()
        with self.changed:
            self.changed.notify_all()

    # ---- the thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        version, failures = "", 0
        while not self._stopped.is_set():
            try:
                if not version:
                    version = self._list()
                begun = time.monotonic()
                for event in self._client.watch(self._resource, version=version, labels=self._labels):
                    failures = 0
                    self._take(event.type, event.found)
                    version = event.found.get("metadata", {}).get("resourceVersion") or version
                if time.monotonic() - begun < SHORT_SECONDS:
                    self._stopped.wait(SHORT_SECONDS)
            except VersionGoneError:
                version = ""
            except Exception as error:  # noqa: BLE001 (told to whoever asks for the pods; the thread has to go on)
                failures += 1
                version = version if isinstance(error, Unavailable) else ""
                self._note(error if isinstance(error, PaddockError) else Bug(f"the watch of pods failed: {error!r}"))
                pause = min(BACKOFF_SECONDS_MAX, 0.25 * 2 ** min(failures, 10)) * random.uniform(0.5, 1.0)
                self._stopped.wait(pause)

    def _list(self) -> str:
        with self.changed:
            self._lists += 1
            begun = self._lists
        found, version = self._client.select(self._resource, labels=self._labels)
        with self.changed:
            listed = {pod["metadata"]["name"]: pod for pod in found}
            for name, pod in list(self._pods.items()):
                if name not in listed and self._added.get(name, (0, 0.0))[0] < begun:
                    self._lose(name, pod)
            self._pods |= listed
            self._added = {
                name: made for name, made in self._added.items() if name not in listed and name in self._pods
            }
            self._listed = True
            self._in_touch()
        return version

    def _take(self, kind: str, found: Object) -> None:
        with self.changed:
            name = found.get("metadata", {}).get("name", "")
            if kind in ("ADDED", "MODIFIED"):
                self._pods[name] = found
                self._added.pop(name, None)
            elif kind == "DELETED":
                self._lose(name, found)
            self._in_touch()

    def _lose(self, name: str, last: Object) -> None:
        self._pods.pop(name, None)
        self._added.pop(name, None)
        self._gone[name] = last
        self._ended_names.append(name)

    def _in_touch(self) -> None:
        self._error, self._out_since = None, None
        self.changed.notify_all()

    def _note(self, error: PaddockError) -> None:
        with self.changed:
            if self._out_since is None and not self._stopped.is_set():
                self._out_since = self._monotonic()
                LOG.warning("the pods are not known at the moment: %s", error)
            self._error = error
            self.changed.notify_all()
