"""The profiles in `~/.aws`, for what obstore does not find out itself."""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from pathlib import Path

from paddock.model.errors import InvalidInput


def s3_config(environment: Mapping[str, str]) -> dict[str, str]:
    """Key, region and endpoint from a profile, as arguments of obstore's S3 store, which reads the `AWS_*` variables only.

    As Amazon's own tools do it: a key in the environment beats the profile; AWS_PROFILE names one, else `default`.
    """
    if environment.get("AWS_ACCESS_KEY_ID"):
        return {}
    folder = Path(environment.get("HOME", "~")).expanduser() / ".aws"
    name = environment.get("AWS_PROFILE") or "default"
    files = (
        (environment.get("AWS_CONFIG_FILE") or folder / "config", name if name == "default" else f"profile {name}"),
        (environment.get("AWS_SHARED_CREDENTIALS_FILE") or folder / "credentials", name),
    )
    found: dict[str, str] = {}
    for path, section in files:
        found |= _section(Path(path), section)
    if not found and environment.get("AWS_PROFILE"):
        raise InvalidInput(f"AWS_PROFILE is {name!r}, but {folder} has no such profile; add it, or unset AWS_PROFILE")
    named = {
        "aws_access_key_id": "access_key_id",
        "aws_secret_access_key": "secret_access_key",
        "aws_session_token": "session_token",
        "region": "region",
        "endpoint_url": "endpoint",
    }
    taken = {"region": ("AWS_REGION", "AWS_DEFAULT_REGION"), "endpoint": ("AWS_ENDPOINT_URL", "AWS_ENDPOINT")}
    return {
        ours: found[theirs]
        for theirs, ours in named.items()
        if theirs in found and not any(environment.get(variable) for variable in taken.get(ours, ()))
    }


def _section(path: Path, section: str) -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        raise InvalidInput(f"{path} can't be read as a file of profiles; mend it, or set AWS_ACCESS_KEY_ID") from None
    return dict(parser[section]) if parser.has_section(section) else {}
