"""Credentials that a program gives: `exec` in a KUBECONFIG, as the clouds' own command lines are called (client.authentication.k8s.io)."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from paddock.model.errors import InvalidInput

ANSWER_SECONDS = 60.0
EARLY_SECONDS = 60.0
"""A token that ends so soon is asked for anew."""


class CredentialProgram:
    """Asked when it is first needed, and again when what it gave is about to end. Thread-safe."""

    def __init__(
        self,
        fields: Mapping[str, Any],
        *,
        file: Path,
        cluster: Mapping[str, Any] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """fields: those of `exec`. file: the KUBECONFIG, for messages and paths. cluster: told to the program where it wants that."""
        command = str(fields.get("command", ""))
        # With a folder it counts from the KUBECONFIG's, as its other paths do.
        self._words = [str(file.parent / command) if "/" in command else command, *map(str, fields.get("args") or ())]
        self._variables = {str(item["name"]): str(item["value"]) for item in fields.get("env") or ()}
        self._hint = str(fields.get("installHint") or "")
        spec: dict[str, Any] = {"interactive": False}
        if fields.get("provideClusterInfo") and cluster is not None:
            spec["cluster"] = {name: value for name, value in cluster.items() if name != "certificate-authority"}
        version = str(fields.get("apiVersion") or "client.authentication.k8s.io/v1")
        self._asked = json.dumps({"apiVersion": version, "kind": "ExecCredential", "spec": spec})
        self._file = file
        self._now = now
        self._lock = threading.Lock()
        self._given: Mapping[str, Any] = {}
        self._until = 0.0

    def token(self) -> str:
        """Empty where it gives a certificate only. InvalidInput: it gives nothing, and what it says."""
        return str(self._credential().get("token") or "")

    def certificate(self) -> tuple[bytes, bytes] | None:
        """Certificate and key, as PEM, where it gives some."""
        found = self._credential()
        chain, key = found.get("clientCertificateData"), found.get("clientKeyData")
        return (str(chain).encode(), str(key).encode()) if chain and key else None

    def _credential(self) -> Mapping[str, Any]:
        with self._lock:
            if not self._given or self._now() >= self._until:
                self._given = self._ask()
                ends = self._given.get("expirationTimestamp")
                self._until = datetime.fromisoformat(str(ends)).timestamp() - EARLY_SECONDS if ends else float("inf")
            return self._given

    def _ask(self) -> Mapping[str, Any]:
        environment = {**os.environ, **self._variables, "KUBERNETES_EXEC_INFO": self._asked}
        try:
            ran = subprocess.run(
                self._words,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=ANSWER_SECONDS,
                check=False,
            )
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            raise self._failed(str(error)) from None
        if ran.returncode:
            raise self._failed(f"exit code {ran.returncode}: {ran.stderr.strip()[-500:]}")
        try:
            status: Mapping[str, Any] = json.loads(ran.stdout)["status"]
            datetime.fromisoformat(str(status.get("expirationTimestamp") or "2000-01-01T00:00:00Z"))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise self._failed("it answers without an ExecCredential") from None
        return status

    def _failed(self, why: str) -> InvalidInput:
        hint = f"; {self._hint.strip()}" if self._hint else ""
        return InvalidInput(
            f"{self._file} gets its credentials by {self._words[0]!r}, which gives none ({why}); mend it or log in{hint}"
        )
