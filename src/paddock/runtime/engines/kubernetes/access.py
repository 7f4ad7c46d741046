"""How to reach a cluster's API server: from inside a pod, or as a KUBECONFIG says.

Served of KUBECONFIG: server, certificate-authority(-data), insecure-skip-tls-verify, tls-server-name, client-certificate(-data)
and client-key(-data), token, tokenFile, exec, username and password, namespace. Plugins of `auth-provider` are refused by name.
"""

from __future__ import annotations

import base64
import os
import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from paddock.model.dataclass import dataclass
from paddock.model.errors import InvalidInput
from paddock.runtime.engines.kubernetes.credentials import CredentialProgram

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
DEFAULT_NAMESPACE = "default"


@dataclass(frozen=True, slots=True)
class Access:
    """server: URL. tls: None for plain http. token_file: read for each request, since clusters replace it while it is in use.

    server_name: whom the server's certificate is for, where that is another name than the URL's.
    """

    server: str
    namespace: str
    tls: ssl.SSLContext | None = None
    token: str = ""
    token_file: Path | None = None
    basic: tuple[str, str] | None = None
    server_name: str = ""
    program: CredentialProgram | None = None
    """Asked for the token."""

    @property
    def extensions(self) -> dict[str, str]:
        """Of each request, for the HTTP library."""
        return {"sni_hostname": self.server_name} if self.server_name else {}

    def authorization(self) -> str | None:
        """The header's value. InvalidInput: the token's file can't be read, or the program that gives one fails."""
        if self.basic is not None:
            return "Basic " + base64.b64encode(":".join(self.basic).encode()).decode()
        token = self.token
        if self.token_file is not None:
            try:
                token = self.token_file.read_text(encoding="ascii").strip()
            except (OSError, ValueError) as error:
                raise InvalidInput(
                    f"the token for Kubernetes in {self.token_file} can't be read ({error}); mend the file or its mount"
                ) from None
        if self.program is not None:
            token = self.program.token()
        return f"Bearer {token}" if token else None


def find_access(environment: Mapping[str, str], *, service_account: Path = SERVICE_ACCOUNT) -> Access:
    """KUBECONFIG where it is set, else the pod's own service account, else `~/.kube/config`. InvalidInput says what is missing."""
    named = [part for part in environment.get("KUBECONFIG", "").split(os.pathsep) if part]
    if named:
        files = [Path(part).expanduser() for part in named]
        present = [file for file in files if file.exists()]
        if not present:
            raise InvalidInput(f"KUBECONFIG names {files[0]}, which is not there; mend or unset KUBECONFIG")
        return from_files(present)
    if (service_account / "token").exists() and environment.get("KUBERNETES_SERVICE_HOST"):
        return _in_cluster(environment, service_account)
    own = Path(environment.get("HOME", "/")) / ".kube" / "config"
    if own.exists():
        return from_files([own])
    raise InvalidInput(
        "no Kubernetes cluster is known here: run the server in a pod with a service account, or set KUBECONFIG to a file"
    )


def _in_cluster(environment: Mapping[str, str], service_account: Path) -> Access:
    host, port = environment["KUBERNETES_SERVICE_HOST"], environment.get("KUBERNETES_SERVICE_PORT", "443")
    authority = service_account / "ca.crt"
    namespace = service_account / "namespace"
    return Access(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        namespace=namespace.read_text(encoding="utf-8").strip() if namespace.exists() else DEFAULT_NAMESPACE,
        tls=_tls(authority, authority=authority.read_bytes() if authority.exists() else None),
        token_file=service_account / "token",
    )


def from_files(files: list[Path]) -> Access:
    """The current context of KUBECONFIG files; where a name is in several, the first one counts."""
    documents = [_document(file) for file in files]
    file = files[0]
    name = next((str(found["current-context"]) for found in documents if found.get("current-context")), "")
    if not name:
        raise InvalidInput(f"{file} has no current-context; choose one with `kubectl config use-context NAME`")
    context = _entry(documents, "contexts", name, file).fields
    cluster_name, user_name = str(context.get("cluster", "")), str(context.get("user", ""))
    cluster = _entry(documents, "clusters", cluster_name, file)
    user = _entry(documents, "users", user_name, file) if user_name else _Entry({}, file.parent)
    return _access(file, cluster, user, context)


def _access(file: Path, cluster: _Entry, user: _Entry, context: Mapping[str, Any]) -> Access:
    if user.fields.get("auth-provider"):
        raise InvalidInput(
            f"{file} gets its credentials by an auth-provider, which is not supported any more; use exec, a token, a token file or"
            " a client certificate"
        )
    server = str(cluster.fields.get("server", ""))
    if not server.startswith(("http://", "https://")):
        raise InvalidInput(
            f"{file} names no server for its current context; write clusters[].cluster.server: https://…"
        )
    tls, program = None, None
    if user.fields.get("exec"):
        program = CredentialProgram(user.fields["exec"], file=user.folder / file.name, cluster=cluster.fields)
    if server.startswith("https://"):
        own = user.bytes("client-certificate"), user.bytes("client-key")
        certificate, key = (program and program.certificate()) or own
        tls = _tls(file, authority=cluster.bytes("certificate-authority"), certificate=certificate, key=key)
        if cluster.fields.get("insecure-skip-tls-verify"):
            tls.check_hostname = False
            tls.verify_mode = ssl.CERT_NONE
    token_file = user.fields.get("tokenFile")
    return Access(
        server=server.rstrip("/"),
        namespace=str(context.get("namespace") or DEFAULT_NAMESPACE),
        tls=tls,
        token=str(user.fields.get("token") or ""),
        token_file=user.folder / token_file if token_file else None,
        basic=(str(user.fields["username"]), str(user.fields.get("password", "")))
        if user.fields.get("username")
        else None,
        server_name=str(cluster.fields.get("tls-server-name") or ""),
        program=program,
    )


def _document(file: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InvalidInput(f"{file} can't be read as a KUBECONFIG ({error}); mend it, or set KUBECONFIG") from None
    if not isinstance(found, dict):
        raise InvalidInput(f"{file} is not a KUBECONFIG; set KUBECONFIG to one")
    return {**found, "folder": file.parent}


def _entry(documents: list[dict[str, Any]], kind: str, name: str, file: Path) -> _Entry:
    """kind: `contexts`, whose items have the fields under `context`; and so on."""
    for document in documents:
        for item in document.get(kind) or ():
            if isinstance(item, dict) and item.get("name") == name:
                return _Entry(item.get(kind[:-1]) or {}, document["folder"])
    raise InvalidInput(f"{file} has no {kind} entry named {name!r}, which its current context needs; add it")


@dataclass(frozen=True, slots=True)
class _Entry:
    """A named entry of a KUBECONFIG. folder: of its file, from which its paths count."""

    fields: Mapping[str, Any]
    folder: Path

    def bytes(self, name: str) -> bytes | None:
        """What it has inline (as base64), or in a file that it names."""
        inline, named = self.fields.get(f"{name}-data"), self.fields.get(name)
        try:
            if inline:
                return base64.b64decode(str(inline), validate=True)
            return (self.folder / str(named)).read_bytes() if named else None
        except (OSError, ValueError) as error:
            raise InvalidInput(f"{name} of the KUBECONFIG in {self.folder} can't be read ({error}); mend it") from None


def _tls(
    source: Path, *, authority: bytes | None, certificate: bytes | None = None, key: bytes | None = None
) -> ssl.SSLContext:
    """authority: who signed the server's certificate, as PEM; None: whom the system trusts. source: for messages."""
    try:
        context = ssl.create_default_context(cadata=authority.decode("ascii") if authority else None)
        # An authority of its own is no CA by the letter (RFC 5280) in many clusters, which is no reason not to trust it.
        context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
        if certificate and key:
            # The ssl module loads a chain from files only; the key is on disk for a moment, for this user alone.
            with tempfile.TemporaryDirectory(prefix="paddock-kube-") as folder:
                chain = Path(folder) / "chain.pem"
                chain.touch(mode=0o600)
                chain.write_bytes(certificate + b"\n" + key)
                context.load_cert_chain(chain)
    except (ssl.SSLError, ValueError) as error:
        raise InvalidInput(f"the certificates of {source} can't be used ({error}); mend them") from None
    return context
