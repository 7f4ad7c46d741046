"""Which provisioner starts the members of an engine's pools. Each is imported when a pool needs it."""

from __future__ import annotations

from paddock.model.errors import InvalidInput
from paddock.model.records import EngineName
from paddock.runtime.engines.provisioner import Provisioner, Site


def open_provisioner(engine: EngineName, site: Site) -> Provisioner:
    """InvalidInput, NotFound: this server can't use the engine (a program or setting is missing). Unavailable: try again."""
    match engine:
        case "slurm":
            from paddock.runtime.engines.slurm.provisioner import SlurmProvisioner

            return SlurmProvisioner(site)
        case "kubernetes":
            from paddock.runtime.engines.kubernetes.provisioner import KubernetesProvisioner

            return KubernetesProvisioner(site)
        case "local":
            raise InvalidInput(f"nothing here starts workers on {engine}; start some by hand: `paddock worker`")
