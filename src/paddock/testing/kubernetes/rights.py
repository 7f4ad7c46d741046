"""Who may do what: rules of Roles, for requests of service accounts and for questions about them (access reviews)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from paddock.testing.kubernetes.kinds import ROLE_BINDINGS, ROLES
from paddock.testing.kubernetes.objects import Objects
from paddock.testing.kubernetes.statuses import Object


@dataclass(frozen=True, slots=True)
class Deed:
    """What is asked for. verb: as RBAC names it; resource: `pods`, `pods/status`."""

    verb: str
    resource: str
    group: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a Role: these verbs on these resources, of these names if any are said."""

    resources: Sequence[str]
    verbs: Sequence[str]
    groups: Sequence[str] = ("",)
    names: Sequence[str] = ()

    @classmethod
    def of(cls, rule: Object) -> Rule:
        """As a Role has it."""
        return cls(rule["resources"], rule["verbs"], rule["apiGroups"], rule.get("resourceNames", ()))

    def allows(self, deed: Deed) -> bool:
        return (
            bool({deed.verb, "*"} & set(self.verbs))
            and bool({deed.resource, "*"} & set(self.resources))
            and bool({deed.group, "*"} & set(self.groups))
            and (not self.names or deed.name in self.names)
        )


def rules_of(objects: Objects, user: str, namespace: str) -> list[Rule]:
    """What a service account (`system:serviceaccount:NAMESPACE:NAME`) may do in a namespace, by the Roles that are bound to it there."""
    bound = {
        binding["roleRef"]["name"]
        for binding in objects.select(ROLE_BINDINGS, namespace)
        if any(user == _user(subject, namespace) for subject in binding["subjects"])
    }
    roles = objects.select(ROLES, namespace, lambda role: role["metadata"]["name"] in bound)
    return [Rule.of(rule) for role in roles for rule in role["rules"]]


def _user(subject: Object, namespace: str) -> str:
    return f"system:serviceaccount:{subject.get('namespace', namespace)}:{subject['name']}"


def review(objects: Objects, asked: Object) -> Object:
    """The answer to an access review; of whoever asks for himself, all is allowed (he has an administrator's rights)."""
    attributes, user = asked["spec"]["resourceAttributes"], asked["spec"].get("user")
    resource = "/".join(filter(None, (attributes["resource"], attributes.get("subresource"))))
    deed = Deed(attributes["verb"], resource, attributes.get("group", ""), attributes.get("name", ""))
    rules = rules_of(objects, user, attributes.get("namespace", "")) if user else [Rule(["*"], ["*"], ["*"])]
    return {**asked, "status": {"allowed": any(rule.allows(deed) for rule in rules)}}
