"""The kinds that this cluster knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    plural: str
    name: str
    api_version: str = "v1"
    namespaced: bool = True

    @property
    def group(self) -> str:
        return self.api_version.rpartition("/")[0]

    @property
    def full_plural(self) -> str:
        """As messages name it: `pods`, `deployments.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


PODS = Kind("pods", "Pod")
SECRETS = Kind("secrets", "Secret")
EVENTS = Kind("events", "Event")
NODES = Kind("nodes", "Node", namespaced=False)
NAMESPACES = Kind("namespaces", "Namespace", namespaced=False)
QUOTAS = Kind("resourcequotas", "ResourceQuota")
DEPLOYMENTS = Kind("deployments", "Deployment", "apps/v1")
SERVICES = Kind("services", "Service")
CLAIMS = Kind("persistentvolumeclaims", "PersistentVolumeClaim")
ROLES = Kind("roles", "Role", "rbac.authorization.k8s.io/v1")
ROLE_BINDINGS = Kind("rolebindings", "RoleBinding", "rbac.authorization.k8s.io/v1")
REVIEWS = (
    Kind("subjectaccessreviews", "SubjectAccessReview", "authorization.k8s.io/v1", namespaced=False),
    Kind("selfsubjectaccessreviews", "SelfSubjectAccessReview", "authorization.k8s.io/v1", namespaced=False),
)
"""Answered, and not kept."""

_KINDS = (
    PODS,
    SECRETS,
    EVENTS,
    NODES,
    NAMESPACES,
    QUOTAS,
    DEPLOYMENTS,
    Kind("configmaps", "ConfigMap"),
    SERVICES,
    Kind("serviceaccounts", "ServiceAccount"),
    CLAIMS,
    Kind("replicasets", "ReplicaSet", "apps/v1"),
    Kind("statefulsets", "StatefulSet", "apps/v1"),
    Kind("jobs", "Job", "batch/v1"),
    Kind("networkpolicies", "NetworkPolicy", "networking.k8s.io/v1"),
    Kind("poddisruptionbudgets", "PodDisruptionBudget", "policy/v1"),
    ROLES,
    ROLE_BINDINGS,
    *REVIEWS,
)
BY_PATH: Mapping[tuple[str, str], Kind] = {(kind.api_version, kind.plural): kind for kind in _KINDS}
BY_NAME: Mapping[tuple[str, str], Kind] = {(kind.api_version, kind.name): kind for kind in _KINDS}
