"""Files cut into pieces: whole records, nothing lost, the same cuts however the bytes come, and named faults."""

from __future__ import annotations

import csv
import gzip
import io
import tarfile
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from paddock.model.splits import SplitBy, SplitFormat, SplitRule, file_of, piece_of, piece_path
from paddock.storage.splitting.cutting import Around, Start, cut_file, named_by_content
from paddock.storage.splitting.records import SplitError
from paddock.storage.splitting.thrift import read_struct, write_struct


class Bytes:
    """A file in memory, that streams in parts of some bytes."""

    def __init__(self, data: bytes, part: int = 7) -> None:
        self.size = len(data)
        self._data = data
        self._part = part

    def read(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]

    def stream(self, offset: int) -> Iterator[bytes]:
        for start in range(offset, len(self._data), self._part):
            yield self._data[start : start + self._part]


def rule(
    format: str, records: int | None = 1, *, bytes: int | None = None, header: bool | None = None, by: str = "position"
) -> SplitRule:
    headed = format == "csv" if header is None else header
    return SplitRule(SplitFormat(format), None if bytes else records, bytes, headed, SplitBy(by))


def pieces(data: bytes, how: SplitRule, *, part: int = 7, window: int = 1 << 20) -> list[bytes]:
    """The pieces as they are laid out; each has its digest and size, and the rows follow one another."""
    source = Bytes(data, part)
    table, head = cut_file(source, how, window_bytes=window)
    around = Around(source, how, head)
    laid = []
    first = 1
    for row in table.to_pylist():
        tail = around.tail(row["offset"], row["records"])
        piece = around.head + source.read(row["offset"], row["length"]) + tail
        assert (len(piece), blake3(piece).digest()) == (row["size"], row["digest"])
        assert (row["first"], row["name"]) == (first, f"{first:012d}")
        first += row["records"]
        laid.append(piece)
    return laid


# ---- text ----------------------------------------------------------------------------------------------------

FIELD = st.text(st.sampled_from('ab,"\n\r ;é'), max_size=6)
ROWS = st.lists(st.lists(FIELD, min_size=2, max_size=2), max_size=12)


def csv_bytes(rows: list[list[str]], ending: str) -> bytes:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator=ending).writerows(rows)
    return text.getvalue().encode()


def read_csv(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode(), newline="")))


@given(ROWS, st.integers(1, 4), st.sampled_from(["\n", "\r\n"]), st.integers(1, 40), st.integers(1, 64))
def test_csv_pieces_are_whole_records_with_the_header(
    rows: list[list[str]], most: int, ending: str, part: int, window: int
) -> None:
    header = ["na\nme", 'q"q']
    data = csv_bytes([header, *rows], ending)
    found = [read_csv(piece) for piece in pieces(data, rule("csv", most), part=part, window=window)]
    assert all(piece[0] == header and len(piece) <= most + 1 for piece in found)
    assert [row for piece in found for row in piece[1:]] == rows
    assert [len(piece) - 1 for piece in found[:-1]] == [most] * (len(found) - 1)


LINES = st.lists(st.sampled_from([b"", b"a", b"bb", b"\r", b"ccc" * 5]), max_size=20)


@given(LINES, st.booleans(), st.integers(1, 3), st.integers(1, 30), st.sampled_from(["lines", "jsonl"]))
def test_lines_are_cut_the_same_however_they_come(
    lines: list[bytes], ended: bool, most: int, window: int, format: str
) -> None:
    data = b"\n".join(lines) + (b"\n" if ended else b"")
    whole = pieces(data, rule(format, most))
    assert pieces(data, rule(format, most), part=3, window=window) == whole
    wanted = data.splitlines(keepends=True) if b"\r" not in data else [each + b"\n" for each in data.split(b"\n")]
    if format == "lines":
        assert b"".join(whole) == data
        if b"\r" not in data:
            assert len(whole) == -(-len(wanted) // most)
    else:
        records = [line for line in data.split(b"\n") if line.strip(b"\r")]
        assert sum(len([line for line in piece.split(b"\n") if line.strip(b"\r")]) for piece in whole) == len(records)
        assert len(whole) == -(-len(records) // most)


@given(st.lists(st.integers(0, 30), max_size=40), st.integers(1, 40))
def test_pieces_by_bytes_hold_as_many_records_as_fit(lengths: list[int], window: int) -> None:
    lines = [b"x" * length + b"\n" for length in lengths]
    expected: list[bytes] = []
    for line in lines:
        if expected and len(expected[-1]) + len(line) <= 40:
            expected[-1] += line
        else:
            expected.append(line)
    assert pieces(b"".join(lines), rule("lines", bytes=40), window=window) == expected


@given(st.lists(st.binary(max_size=3).map(lambda each: each.replace(b"\n", b"")), max_size=60), st.integers(1, 50))
def test_by_content_an_edit_moves_only_the_pieces_around_it(lines: list[bytes], window: int) -> None:
    how = rule("lines", 3, by="content")
    data = b"".join(line + b"\n" for line in lines)
    whole = pieces(data, how)
    assert b"".join(whole) == data
    assert all(piece.count(b"\n") <= 3 for piece in whole)
    assert pieces(data, how, window=window) == whole


def test_an_insertion_by_content_costs_few_pieces() -> None:
    how = rule("lines", 4, by="content")
    lines = [b"line %d\n" % number for number in range(4000)]
    before = set(pieces(b"".join(lines), how))
    after = set(pieces(b"".join([*lines[:2000], b"new\n", *lines[2000:]]), how))
    assert 1 <= len(after - before) <= 30
    assert len(before) > 900


def test_names_by_content_tell_equal_pieces_apart() -> None:
    assert named_by_content([b"a" * 32, b"b" * 32, b"a" * 32, b"a" * 32]) == [
        "61" * 10,
        "62" * 10,
        f"{'61' * 10}-2",
        f"{'61' * 10}-3",
    ]


def test_a_piece_has_the_suffix_of_its_file() -> None:
    path = piece_path("/d/a.b.csv", "000000000007")
    assert path == "/d/a.b.csv/a.b-000000000007.csv"
    assert (file_of(path), piece_of(path)) == ("/d/a.b.csv", "000000000007")
    assert piece_of(piece_path("/d/.hidden", "x")) == "x"


def test_cutting_goes_on_at_any_piece() -> None:
    data = b"id,name\n" + b"".join(b'%d,"a\nb"\n' % number for number in range(50))
    how = rule("csv", 3)
    table, head = cut_file(Bytes(data), how)
    for number, row in enumerate(table.to_pylist()):
        rest, _ = cut_file(Bytes(data), how, Start(row["offset"], head, row["first"] - 1))
        assert rest.equals(table.slice(number))


@pytest.mark.parametrize("data", [b"", b"id,name", b"id,name\n", b"id,name\r\n\r\n", b"\n\n"])
def test_a_file_without_records_has_no_pieces(data: bytes) -> None:
    assert pieces(data, rule("csv")) == []


def test_lines_may_have_a_header_too() -> None:
    assert pieces(b'a 5" b\nc\nd', rule("lines", header=True)) == [b'a 5" b\nc\n', b'a 5" b\nd']


@pytest.mark.parametrize(
    ("data", "how", "fault", "byte", "records"),
    [
        (b'a,b\n1,2\n3,"4\n5,6\n', rule("csv"), "opens a quote that is never closed", 10, 1),
        (b'a,b\n1,2\n3,4" wide\n5,6\n', rule("csv"), "has a quote inside a field", 11, 1),
        (
            b"a,b\n1,2\n" + b"3" * 90 + b",4\n",
            rule("csv", bytes=50),
            "has a record of 93 bytes, and a piece holds 50",
            8,
            1,
        ),
        (gzip.compress(blake3(b"").digest(length=2000), mtime=0), rule("tar"), r"is compressed \(gzip\)", 0, 0),
        (gzip.compress(bytes(10_000), mtime=0), rule("tar"), r"is compressed \(gzip\)", 0, 0),
        (b"x" * 2000, rule("tar"), "has no valid member header", 0, 0),
        (b"PAR1" + b"x" * 20, rule("parquet"), "does not end in PAR1", 20, 0),
        (b"PAR1" + b"x" * 20 + b"\xff\0\0\0PAR1", rule("parquet"), "it claims 255 bytes", 24, 0),
        (b"PAR1" + b"\xff" * 20 + b"\x14\0\0\0PAR1", rule("parquet"), "has a broken Parquet footer", 4, 0),
        (b"id,a\n", rule("parquet"), "is no Parquet file", 0, 0),
        (b"PAR1" + b"x" * 20 + b"\x14\0\0\0PARE", rule("parquet"), "is encrypted", 28, 0),
    ],
)
def test_faults_are_named_with_their_place(data: bytes, how: SplitRule, fault: str, byte: int, records: int) -> None:
    with pytest.raises(SplitError, match=fault) as raised:
        cut_file(Bytes(data), how)
    assert (raised.value.byte, raised.value.records) == (byte, records)


# ---- archives ------------------------------------------------------------------------------------------------


def tar_bytes(members: dict[str, bytes], format: int, headers: dict[str, str] | None = None) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=format, pax_headers=headers) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return target.getvalue()


def members_of(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = {}
        for info in archive:
            content = archive.extractfile(info)
            found[info.name] = b"" if content is None else content.read()
        return found


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("most", [1, 2, 100])
def test_tar_pieces_are_archives_of_whole_members(format: int, most: int) -> None:
    names = ["a", "b/c", "ü", "d" * 90] + (["e" * 200] if format != tarfile.USTAR_FORMAT else [])
    members = {name: name.encode() * (37 * number) for number, name in enumerate(names)}
    data = tar_bytes(members, format, {"comment": "all"} if format == tarfile.PAX_FORMAT else None)
    found = [members_of(piece) for piece in pieces(data, rule("tar", most), window=100)]
    assert [list(piece) for piece in found] == [names[at : at + most] for at in range(0, len(names), most)]
    assert {name: content for piece in found for name, content in piece.items()} == members


def test_a_tar_that_was_cut_off_is_refused() -> None:
    data = tar_bytes({"a": b"x" * 2000, "b": b"y" * 2000}, tarfile.USTAR_FORMAT)
    with pytest.raises(SplitError, match="cut off") as raised:
        cut_file(Bytes(data[:3500]), rule("tar"))
    assert (raised.value.byte, raised.value.records) == (512 + 2048, 1)


# ---- Parquet -------------------------------------------------------------------------------------------------


def parquet_bytes(table: pa.Table, rows: int, **options: Any) -> bytes:
    target = io.BytesIO()
    pq.write_table(table, target, row_group_size=rows, **options)
    return target.getvalue()


TABLE = pa.table(
    {
        "id": list(range(25)),
        "text": [None if number % 7 == 3 else f"t{number % 5}" for number in range(25)],
        "nested": [{"a": [number, number + 1], "b": number % 2 == 0} for number in range(25)],
    }
)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zstd", "write_page_index": True},
        {"use_dictionary": False, "store_schema": False},
        {"version": "1.0", "data_page_version": "2.0", "write_page_checksum": True},
        {"bloom_filter_options": {"id": True}},
    ],
)
@pytest.mark.parametrize(("most", "sizes"), [(1, [4, 4, 4, 4, 4, 4, 1]), (9, [8, 8, 9]), (100, [25])])
def test_parquet_pieces_are_files_of_whole_row_groups(options: dict[str, Any], most: int, sizes: list[int]) -> None:
    if "bloom_filter_options" in options and pa.__version__.partition(".")[0] < "24":
        del options["bloom_filter_options"]
    data = parquet_bytes(TABLE, 4, **options)
    found = [pq.read_table(io.BytesIO(piece)) for piece in pieces(data, rule("parquet", most))]
    assert [len(piece) for piece in found] == sizes
    assert pa.concat_tables(found).equals(TABLE)
    again = pq.ParquetFile(io.BytesIO(pieces(data, rule("parquet", most))[0])).metadata
    assert again.num_rows == sizes[0]


def test_parquet_statistics_and_metadata_stay_with_the_pieces() -> None:
    data = parquet_bytes(TABLE.replace_schema_metadata({"owner": "x"}), 10)
    piece = pq.ParquetFile(io.BytesIO(pieces(data, rule("parquet"))[1]))
    assert piece.schema_arrow.metadata[b"owner"] == b"x"
    assert piece.metadata.row_group(0).column(0).statistics.min == 10


def test_parquet_row_groups_larger_than_the_limit_are_refused() -> None:
    data = parquet_bytes(TABLE, 10)
    with pytest.raises(SplitError, match=r"row group \(number 0\) of .* bytes, and a piece holds 100"):
        cut_file(Bytes(data), rule("parquet", bytes=100))


def test_a_footer_is_written_back_as_it_was() -> None:
    data = parquet_bytes(TABLE, 4)
    length = int.from_bytes(data[-8:-4], "little")
    footer = data[-8 - length : -8]
    assert write_struct(read_struct(footer)) == footer


@given(st.binary(max_size=60))
def test_no_bytes_break_the_footer_reader(data: bytes) -> None:
    try:
        read_struct(data)
    except ValueError:
        return
