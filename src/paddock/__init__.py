"""Paddock: versioned data, and pipelines that compute only what changed.

    import paddock

    with paddock.connect() as pd:
        pd.repos.create("photos")
        pd.files.put_tree("photos@main", Path("photos"))

Names are loaded when they are first used, so that `import paddock` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from paddock.model.version import VERSION

if TYPE_CHECKING:
    from paddock.client.connection import connect as connect
    from paddock.client.mapping import map_folder as map_folder
    from paddock.client.running import run_specs as run_specs
    from paddock.functions.inputs import cross as cross
    from paddock.functions.inputs import glob as glob
    from paddock.functions.inputs import group as group
    from paddock.functions.inputs import join as join
    from paddock.functions.inputs import union as union
    from paddock.functions.pipeline import PipelineFunction as PipelineFunction
    from paddock.functions.pipeline import pipeline as pipeline
    from paddock.model.errors import AlreadyExists as AlreadyExists
    from paddock.model.errors import Bug as Bug
    from paddock.model.errors import Conflict as Conflict
    from paddock.model.errors import Corrupt as Corrupt
    from paddock.model.errors import InvalidInput as InvalidInput
    from paddock.model.errors import LimitExceeded as LimitExceeded
    from paddock.model.errors import NotFound as NotFound
    from paddock.model.errors import PaddockError as PaddockError
    from paddock.model.errors import PermissionDenied as PermissionDenied
    from paddock.model.errors import Problem as Problem
    from paddock.model.errors import Unavailable as Unavailable
    from paddock.model.errors import UserCodeFailed as UserCodeFailed
    from paddock.model.services import Paddock as Paddock
    from paddock.model.services import Transferred as Transferred


__version__ = VERSION

_HOMES = {
    "AlreadyExists": "paddock.model.errors",
    "Bug": "paddock.model.errors",
    "Conflict": "paddock.model.errors",
    "Corrupt": "paddock.model.errors",
    "InvalidInput": "paddock.model.errors",
    "LimitExceeded": "paddock.model.errors",
    "NotFound": "paddock.model.errors",
    "Paddock": "paddock.model.services",
    "PaddockError": "paddock.model.errors",
    "PermissionDenied": "paddock.model.errors",
    "Problem": "paddock.model.errors",
    "Transferred": "paddock.model.services",
    "Unavailable": "paddock.model.errors",
    "UserCodeFailed": "paddock.model.errors",
    "PipelineFunction": "paddock.functions.pipeline",
    "cross": "paddock.functions.inputs",
    "glob": "paddock.functions.inputs",
    "group": "paddock.functions.inputs",
    "join": "paddock.functions.inputs",
    "pipeline": "paddock.functions.pipeline",
    "union": "paddock.functions.inputs",
    "connect": "paddock.client.connection",
    "map_folder": "paddock.client.mapping",
    "run_specs": "paddock.client.running",
}

__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'paddock' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
