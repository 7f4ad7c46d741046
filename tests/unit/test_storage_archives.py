"""Archives that people and attackers make: what is put, what is refused, and by which name."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from paddock.client.embedded import EmbeddedPaddock
from paddock.model.errors import Conflict, InvalidInput, LimitExceeded, PaddockError
from paddock.storage import archive_reading
from paddock.storage.archive_reading import read_archive, told


@pytest.fixture
def data(paddock: EmbeddedPaddock) -> EmbeddedPaddock:
    paddock.repos.create("data")
    return paddock


def member(name: str, content: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def tar_of(*members: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(*members: tuple[str, bytes, int]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content, mode in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return buffer.getvalue()


def put(data: EmbeddedPaddock, archive: bytes) -> dict[str, bytes]:
    data.files.put_archive("data@main", io.BytesIO(archive), mirror=True)
    return {
        file.path: b"".join(data.files.read(f"data@main:{file.path}"))
        for file in data.files.list("data@main", recursive=True)
    }


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_names_of_any_length_and_kind(data: EmbeddedPaddock, format: int) -> None:
    long = "/".join(["ü" * 60] * 5)
    archive = tar_of(
        member("./"),
        member("./a", b"1"),
        member(".//b/", type=tarfile.DIRTYPE),
        member(long, b"2"),
        member("run", b"3", mode=0o755),
        member("empty"),
        format=format,
    )
    assert put(data, archive) == {"/a": b"1", f"/{long}": b"2", "/run": b"3", "/empty": b""}
    assert data.files.inspect("data@main:/run").executable


@pytest.mark.parametrize(
    "pack", [gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress, bytes]
)
def test_every_compression_is_known_by_its_bytes(data: EmbeddedPaddock, pack: Callable[[bytes], bytes]) -> None:
    content = os.urandom(700_000)
    whole = pack(tar_of(member("a", content)))
    assert put(data, whole) == {"/a": content}
    for size in (600, 300_000, 650_000):
        with pytest.raises(InvalidInput, match=r"torn|no archive"):
            put(data, whole[:size])
    assert put(data, whole + bytes(20_000) if pack is bytes else whole) == {"/a": content}


def test_archives_of_gnu_tar(data: EmbeddedPaddock, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "one").write_bytes(b"1")
    os.link(tmp_path / "in" / "one", tmp_path / "in" / "two")
    for options in ((), ("--format=posix",), ("--format=v7",)):
        ran = subprocess.run(["tar", "-c", *options, "-C", tmp_path / "in", "."], capture_output=True, check=True)
        assert put(data, ran.stdout) == {"/one": b"1", "/two": b"1"}
    (tmp_path / "in" / "sparse").touch()
    os.truncate(tmp_path / "in" / "sparse", 1 << 20)
    for options in (("--format=posix",), ("--format=gnu",)):
        command = ["tar", "-c", "--sparse", *options, "-C", tmp_path / "in", "."]
        ran = subprocess.run(command, capture_output=True, check=True)
        with pytest.raises(InvalidInput, match="without --sparse"):
            put(data, ran.stdout)


@pytest.mark.parametrize(
    ("archive", "names"),
    [
        pytest.param(tar_of(member("../up", b"1")), ["../up"], id="above"),
        pytest.param(tar_of(member("a/../../up", b"1")), ["a/../../up"], id="above, within"),
        pytest.param(tar_of(member("/etc/passwd", b"1")), ["/etc/passwd"], id="root"),
        pytest.param(tar_of(member("../", type=tarfile.DIRTYPE)), [".."], id="directory above"),
        pytest.param(tar_of(member("a", type=tarfile.SYMTYPE, linkname="/etc")), ["a"], id="link"),
        pytest.param(tar_of(member("a", type=tarfile.LNKTYPE, linkname="/etc/passwd")), ["a"], id="hard link out"),
        pytest.param(tar_of(member("a", type=tarfile.LNKTYPE, linkname="b")), ["a"], id="hard link to nothing"),
        pytest.param(tar_of(member("n", type=tarfile.CHRTYPE)), ["n"], id="device"),
        pytest.param(tar_of(member("n", type=tarfile.BLKTYPE)), ["n"], id="block device"),
        pytest.param(tar_of(member("p", type=tarfile.FIFOTYPE)), ["p"], id="pipe"),
        pytest.param(tar_of(member("a", b"1"), member("./a", b"2")), ["a"], id="twice"),
        pytest.param(tar_of(member(os.fsdecode(b"\xff"), b"1"), format=tarfile.GNU_FORMAT), ["udcff"], id="not UTF-8"),
        pytest.param(tar_of(member("x" * 5000, b"1")), ["xxx"], id="too long"),
        pytest.param(zip_of(("../up", b"1", 0)), ["../up"], id="zip above"),
        pytest.param(zip_of(("/up", b"1", 0)), ["/up"], id="zip root"),
        pytest.param(zip_of(("a", b"/etc", 0o120777)), ["a"], id="zip link"),
        pytest.param(zip_of(("a", b"", 0o020666)), ["a"], id="zip device"),
        pytest.param(
            tar_of(member("../a", b"1"), member("ok", b"2"), member("b", type=tarfile.SYMTYPE)), ["../a", "b"], id="two"
        ),
    ],
)
def test_what_is_no_file_of_a_tree_is_named_and_nothing_put(
    data: EmbeddedPaddock, archive: bytes, names: list[str]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        put(data, archive)
    assert len(caught.value.problems) == len(names)
    for problem, name in zip(caught.value.problems, names, strict=True):
        assert name in problem.place
    assert not data.commits.list("data")


def test_a_file_that_is_also_a_directory_is_refused(data: EmbeddedPaddock) -> None:
    with pytest.raises(Conflict, match=r"/a can't be both .*/a/b"):
        put(data, tar_of(member("a", b"1"), member("a/b", b"2")))


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_bombs_are_refused(
    data: EmbeddedPaddock, monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr(archive_reading, "RATIO_FROM_BYTES", 1 << 20)
    with pytest.raises(LimitExceeded, match="attack"):
        put(data, pack(tar_of(member("zeros", bytes(8 << 20)))))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(8 << 20))
    with pytest.raises(LimitExceeded, match="attack"):
        put(data, buffer.getvalue())


def test_long_headers_are_not_read_into_memory(data: EmbeddedPaddock) -> None:
    for kind in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE):
        info = tarfile.TarInfo("x")
        info.type, info.size = kind, 1 << 33
        with pytest.raises(LimitExceeded, match="header"):
            put(data, info.tobuf(tarfile.GNU_FORMAT) + bytes(2000))


def test_zips_with_passwords_and_damage(data: EmbeddedPaddock) -> None:
    whole = bytearray(zip_of(("a", b"content", 0o100644)))
    damaged = bytes(whole).replace(b"content", b"kontent")
    with pytest.raises(InvalidInput, match="torn or damaged"):
        put(data, damaged)
    whole[6] |= 1
    whole[whole.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(InvalidInput, match="encrypted"):
        put(data, bytes(whole))


@given(st.binary(max_size=3000), st.integers(0, 1100), st.binary(max_size=8))
def test_no_bytes_lead_to_anything_but_members_or_our_errors(garbage: bytes, at: int, change: bytes) -> None:
    whole = tar_of(member("a", b"1", pax_headers={"comment": "x"}), member("b", b"2"))
    for archive in (garbage, whole[:at] + change + whole[at + len(change) :]):
        try:
            with told():
                for found in read_archive(io.BytesIO(archive)):
                    if found.content is not None:
                        found.content.read(10)
        except PaddockError:
            pass
