"""`GET /metrics`: measures of the home and of this server in the text format of Prometheus, which most collectors read."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter, Response

from paddock.api.agents import InCluster
from paddock.runtime.measures import Labels, Measure

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

router = APIRouter(tags=["about"])


@router.get("/metrics", summary="What there is to watch, for Prometheus and its like", response_class=Response)
def metrics(cluster: InCluster) -> Response:
    return Response("".join(line for measure in cluster.measures() for line in _lines(measure)), media_type=MEDIA_TYPE)


def _lines(measure: Measure) -> Iterator[str]:
    yield f"# HELP {measure.name} {measure.meaning}\n# TYPE {measure.name} gauge\n"
    for labels, value in measure.values:
        yield f"{measure.name}{_shown(labels)} {value:g}\n"


def _shown(labels: Labels) -> str:
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
