"""Members of pools as pods (design note 034). Keeps nothing that it could not see again: pods carry home and pool as labels."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from paddock.model.errors import AlreadyExists, InvalidInput, NotFound, PaddockError, Unavailable
from paddock.runtime.engines.kubernetes.access import find_access
from paddock.runtime.engines.kubernetes.client import KubernetesClient
from paddock.runtime.engines.kubernetes.objects import Object, Resource
from paddock.runtime.engines.kubernetes.pods import (
    HOME_LABEL,
    POOL_LABEL,
    PodSettings,
    PoolIdentity,
    build_pod,
    build_secret,
)
from paddock.runtime.engines.kubernetes.reasons import Seen, read_events, read_pod
from paddock.runtime.engines.kubernetes.watching import PodView
from paddock.runtime.engines.provisioner import Member, MemberState, PoolTemplate, Site
from paddock.settings import Settings

FAILED_KEPT_SECONDS = 300.0
"""A pod that failed is deleted after so long: till then its log can be read (`kubectl logs`)."""
START_MAX = 50
"""Pods asked for in one call, at some 10 ms each: other pools wait for as long, and the next call asks for the rest."""
MOUNTING_SECONDS = 4.0
"""A pod that has a node and runs nothing for so long may lack a volume: its events are read, again after each such time."""


class KubernetesProvisioner:
    """Implements `Provisioner`. One thread of its own watches; all calls are for one thread.

    Errors besides those of the protocol: LimitExceeded where a quota is used up (those pods that it allowed were started; call again
    later), PermissionDenied where the server's Role lacks a verb.
    """

    def __init__(
        self,
        site: Site,
        *,
        client: KubernetesClient | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """InvalidInput: a setting is missing, or no cluster is known."""
        self._settings = pod_settings(site)
        self._home = site.home
        access = client.access if client is not None else find_access(os.environ)
        namespace = site.settings.kubernetes_namespace or access.namespace
        self._owner_name = site.settings.kubernetes_owner
        self._owner: Object | None = None
        self._pods = Resource("pods", namespace)
        self._secrets = Resource("secrets", namespace)
        self._events = Resource("events", namespace)
        self._deployments = Resource("deployments", namespace, "apps/v1")
        self._monotonic = monotonic
        self._now = now
        self._client = client or KubernetesClient(access)
        self.view = PodView(self._client, self._pods, labels=f"{HOME_LABEL}={self._home}", monotonic=monotonic)
        self._cancelled: set[str] = set()
        self._told: dict[str, float] = {}
        """Since when it was told of members that have ended."""
        self._mounting: dict[str, float] = {}
        self._troubles: dict[str, tuple[float, str]] = {}
        """By pool: when events were read last, and what they said."""

    def members(self) -> Sequence[Member]:
        self._confirm()
        pods = self.view.pods()
        self._tidy(pods)
        present = [self._member(pod) for pod in pods]
        gone = [member for pod in self.view.take_gone() if (member := self._gone(pod)) is not None]
        self._forget({member.name for member in present})
        return [member for member in present if not self._told_long_ago(member)] + gone

    def start(self, template: PoolTemplate, count: int) -> None:
        identity = PoolIdentity(self._home, template.name)
        secret = self._put_secret(identity, template.token)
        for _ in range(min(count, START_MAX)):
            name = f"{identity.prefix}-{secrets.token_hex(4)}"
            pod = build_pod(template.spec, self._settings, identity, name, secret)
            try:
                self.view.add(self._client.create(self._pods, pod))
            except AlreadyExists:
                pass  # made by a request whose answer was lost; the watch tells of it

    def cancel(self, names: Sequence[str]) -> None:
        for name in names:
            self._cancelled.add(name)
            self._delete(self._pods, name)

    def remove_pool(self, name: str) -> None:
        self.cancel([pod["metadata"]["name"] for pod in self.view.pods() if _pool(pod) == name])
        # What the view does not know yet goes with its owner.
        self._delete(self._secrets, PoolIdentity(self._home, name).prefix)

    def close(self) -> None:
        self.view.stop()
        self._client.close()

    # ---- inside --------------------------------------------------------------------------------------------

    def _put_secret(self, identity: PoolIdentity, token: str) -> Object:
        wanted = build_secret(identity, token, self._find_owner())
        try:
            return self._client.create(self._secrets, wanted)
        except AlreadyExists:
            changes = {"metadata": wanted["metadata"], "data": wanted["data"]}
            return self._client.patch(self._secrets, identity.prefix, changes)

    def _find_owner(self) -> Object | None:
        if self._owner is None and self._owner_name:
            try:
                self._owner = self._client.get(self._deployments, self._owner_name)
            except NotFound as error:
                raise InvalidInput(
                    f"PADDOCK_KUBERNETES_OWNER names the Deployment {self._owner_name}, which is not there ({error}); mend or unset it"
                ) from None
        return self._owner

    def _delete(self, resource: Resource, name: str) -> None:
        try:
            self._client.delete(resource, name)
        except NotFound:
            pass

    def _confirm(self) -> None:
        for name in self.view.unconfirmed():
            try:
                self.view.confirm(name, self._client.get(self._pods, name))
            except NotFound:
                self.view.confirm(name, None)
            except Unavailable:
                return

    def _member(self, pod: Object) -> Member:
        name, pool = pod["metadata"]["name"], _pool(pod)
        seen = read_pod(pod, self._now())
        reason = "" if seen.state is MemberState.ENDED and name in self._cancelled else seen.reason
        return Member(name, pool, seen.state, reason or self._trouble(name, pool, seen), seen.retry, seen.taken)

    def _gone(self, pod: Object) -> Member | None:
        """What is said of a pod that does not exist any more; None where its end was told before."""
        name, pool = pod["metadata"]["name"], _pool(pod)
        if name in self._told:
            return None
        seen = read_pod(pod, self._now())
        reason = seen.reason
        if seen.state is not MemberState.ENDED and not reason:
            reason = "somebody deleted the pod; another one is started where there is work"
        return Member(name, pool, MemberState.ENDED, "" if name in self._cancelled else reason)

    def _trouble(self, name: str, pool: str, seen: Seen) -> str:
        """Why a pod has a node and runs nothing, where that takes long. Pods of a pool are alike, so one of them is asked about."""
        if not seen.mounting:
            self._mounting.pop(name, None)
            return ""
        now = self._monotonic()
        if now - self._mounting.setdefault(name, now) < MOUNTING_SECONDS:
            return ""
        asked, said = self._troubles.get(pool, (-MOUNTING_SECONDS, ""))
        if now - asked >= MOUNTING_SECONDS:
            try:
                events, _ = self._client.select(self._events, fields=f"involvedObject.name={name},type=Warning")
                said = read_events(events)
            except PaddockError:
                said = ""  # no reason is worth less than the members
            self._troubles[pool] = (now, said)
        return said

    def _tidy(self, pods: Sequence[Object]) -> None:
        """Delete pods that have ended, once that was told: those that failed after a while, for whoever wants to look at them."""
        now = self._monotonic()
        for pod in pods:
            name = pod["metadata"]["name"]
            if name not in self._told or "deletionTimestamp" in pod["metadata"]:
                continue
            failed = pod.get("status", {}).get("phase") == "Failed"
            if now - self._told[name] >= (FAILED_KEPT_SECONDS if failed and name not in self._cancelled else 0.0):
                try:
                    self._delete(self._pods, name)
                except Unavailable:
                    return  # the next call tries again

    def _told_long_ago(self, member: Member) -> bool:
        if member.state is not MemberState.ENDED:
            return False
        now = self._monotonic()
        return now - self._told.setdefault(member.name, now) > FAILED_KEPT_SECONDS

    def _forget(self, present: set[str]) -> None:
        self._told = {name: since for name, since in self._told.items() if name in present}
        self._mounting = {name: since for name, since in self._mounting.items() if name in present}
        self._cancelled &= present


def pod_settings(site: Site) -> PodSettings:
    """InvalidInput: what pods can't do without is not set."""
    settings: Settings = site.settings
    if not settings.worker_image:
        raise InvalidInput(
            "engine: kubernetes needs the name of Paddock's own image; set PADDOCK_WORKER_IMAGE for the server (the chart does)"
        )
    return PodSettings(
        worker_image=settings.worker_image,
        url=site.url,
        user_image=settings.user_image,
        pull_policy=settings.image_pull_policy,
        pull_secrets=settings.image_pull_secrets,
        storage_secret=settings.worker_storage_secret if site.storage is not None else "",
        cpu=settings.worker_cpu,
        restricted=settings.pod_security == "restricted",
    )


def _pool(pod: Object) -> str:
    labels: Mapping[str, str] = pod["metadata"].get("labels") or {}
    return labels.get(POOL_LABEL, "")
