"""Stores by URL: what is a URL of one, and where the credentials come from."""

from __future__ import annotations

from pathlib import Path

import pytest
from obstore import exceptions

from paddock.model.errors import InvalidInput, NotFound, PermissionDenied, Unavailable
from paddock.storage.aws_profile import s3_config
from paddock.storage.network_errors import translate
from paddock.storage.network_objects import NetworkObjects
from paddock.storage.object_urls import open_objects, parse_store_url


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("gs://bucket/a", "gs://bucket/a"),
        ("az://container/a b", "az://container/a b"),
        ("az://container/a%20b", "az://container/a b"),
        ("file:///data/store/", "file:///data/store"),
        ("file://localhost/data", "file:///data"),
        ("memory://", "memory://"),
        ("memory://name", "memory://name"),
    ],
)
def test_urls_have_one_normal_form(text: str, normal: str) -> None:
    assert str(parse_store_url(text)) == normal
    assert parse_store_url(normal) == parse_store_url(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("bucket", "does not name an object store"),
        ("ftp://host/a", "does not name an object store"),
        ("s3:///a", "name a bucket"),
        ("s3://", "name a bucket"),
        ("s3://bucket/../other", "empty part"),
        ("s3://bucket/a//b", "empty part"),
        ("file://host/a", "whole path"),
        ("file:///", "whole path"),
        ("s3://bucket/a#b", "no user, password or parameters"),
    ],
)
def test_a_wrong_url_is_refused_with_what_is_wrong(text: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        parse_store_url(text)


@pytest.mark.parametrize(
    "text", ["s3://key:hidden@bucket/a", "s3://bucket/a?token=hidden", "ftp://u:hidden@h/a?b=hidden"]
)
def test_a_secret_in_a_url_is_not_repeated(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_store_url(text)
    assert "hidden" not in str(caught.value)


def test_keys_in_the_environment_beat_the_profile(tmp_path: Path) -> None:
    folder = tmp_path / ".aws"
    folder.mkdir()
    (folder / "credentials").write_text(
        "[default]\naws_access_key_id = one\naws_secret_access_key = %secret\n[other]\naws_access_key_id = two\n"
    )
    (folder / "config").write_text("[default]\nregion = eu-west-1\n[profile other]\nendpoint_url = http://here:1\n")
    home = {"HOME": str(tmp_path)}
    assert s3_config(home) == {"access_key_id": "one", "secret_access_key": "%secret", "region": "eu-west-1"}
    assert s3_config(home | {"AWS_PROFILE": "other"}) == {"access_key_id": "two", "endpoint": "http://here:1"}
    assert s3_config(home | {"AWS_REGION": "here"}) == {"access_key_id": "one", "secret_access_key": "%secret"}
    assert s3_config(home | {"AWS_ACCESS_KEY_ID": "three"}) == {}
    with pytest.raises(InvalidInput, match="AWS_PROFILE is 'third'"):
        s3_config(home | {"AWS_PROFILE": "third"})


def test_a_store_that_refuses_the_key_says_so(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    objects = open_objects(parse_store_url(s3_url))
    with pytest.raises(
        PermissionDenied, match=rf"can't read {s3_url}/a: .*SignatureDoesNotMatch.*check the credentials"
    ):
        objects.read("a")


@pytest.mark.usefixtures("s3_url")
def test_a_bucket_that_does_not_exist_is_named() -> None:
    objects = open_objects(parse_store_url("s3://no-such-bucket/a"))
    with pytest.raises(NotFound, match="s3://no-such-bucket/a: the bucket does not exist; create it"):
        list(objects.list(""))


@pytest.mark.usefixtures("s3_url")
def test_a_store_that_nobody_serves_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    objects = open_objects(parse_store_url("s3://bucket/a"))
    assert isinstance(objects, NetworkObjects)
    with pytest.raises(Unavailable, match=r"can't look at s3://bucket/a/x: .*try again"):
        objects.info("x")


def test_a_store_that_fails_inside_says_where_to_look() -> None:
    answer = "<Code>InternalError</Code><Message>We encountered an internal error, please try again.</Message>"
    failure = exceptions.GenericError(f"Error performing PUT: status code: 500 Internal Server Error: {answer}")
    error = translate(failure, "write", "packs/ab", "s3://bucket")
    assert type(error) is Unavailable
    assert str(error) == (
        "can't write s3://bucket/packs/ab: InternalError: We encountered an internal error; "
        "try again; if that fails too, look at the store: its log, and whether it has room"
    )


def test_a_wrong_clock_is_told_apart_from_wrong_keys() -> None:
    answer = "<Code>RequestTimeTooSkewed</Code><Message>The difference between the request time is too large</Message>"
    error = translate(exceptions.PermissionDeniedError(answer), "read", "packs/ab", "s3://bucket")
    assert type(error) is PermissionDenied
    assert "this machine's clock is wrong" in str(error)
