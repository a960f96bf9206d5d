"""Tar shards that are damaged, odd or hostile: each fault is a row, and the members around it are kept."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
from pathlib import Path

import pytest

from jobs.runtime import config
from jobs.sources import tar, webdataset
from jobs.sources.rows import Row
from tests.builders.sources import tar_bytes

END = bytes(1024)


def block(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    """Returns the header of a member, with any claimed size."""
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = size, kind, link
    return member.tobuf(tarfile.GNU_FORMAT)


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


def member(name: str, content: bytes, size: int | None = None) -> bytes:
    return block(name, len(content) if size is None else size) + padded(content)


def sample(key: str, content: bytes = b"image") -> bytes:
    return member(f"{key}.jpg", content) + member(f"{key}.txt", key.encode())


def sparse(name: str, size: int, pieces: dict[int, bytes], stored: int | None = None) -> bytes:
    """Returns a member as GNU tar writes it with --sparse: its zeros are left out. It may claim any stored size."""
    length = sum(map(len, pieces.values())) if stored is None else stored
    header = bytearray(block(name, length, tarfile.GNUTYPE_SPARSE))
    for number, (start, content) in enumerate(pieces.items()):
        header[386 + 24 * number : 410 + 24 * number] = b"%011o\0%011o\0" % (start, len(content))
    header[483:495] = b"%011o\0" % size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + padded(b"".join(pieces.values()))


def rows_of(data: bytes, settings: config.Settings, folder: Path, name: str = "0.tar") -> list[Row]:
    (folder / name).write_bytes(data)
    return list(webdataset._rows(str(folder / name), settings.ingest))


def found_in(data: bytes, settings: config.Settings, folder: Path) -> list[tuple[str, bytes | str | None]]:
    """Returns the key of each row with its image or its reason."""
    return [(row.key, row.reason or row.image) for row in rows_of(data, settings, folder)]


def test_archives_that_follow_each_other_are_all_read(settings: config.Settings, tmp_path: Path) -> None:
    two = tar_bytes({"a.jpg": b"1", "a.txt": b"x"}) + tar_bytes({"b.jpg": b"2"})

    assert found_in(two, settings, tmp_path) == [("a", b"1"), ("b", b"2")]
    assert found_in(two[:-8000], settings, tmp_path) == [("a", b"1"), ("b", b"2")]


def test_an_archive_after_a_truncated_one_is_read(settings: config.Settings, tmp_path: Path) -> None:
    first = sample("a") + member("b.jpg", b"x" * 3000)
    rows = rows_of(first[:-1500] + sample("c") + END, settings, tmp_path)

    assert [(row.key, row.reason) for row in rows] == [("a", None), ("b", "corrupt shard"), ("c", None)]
    assert "another member begins inside" in (rows[1].detail or "")


def test_the_end_of_the_second_archive_may_be_truncated(settings: config.Settings, tmp_path: Path) -> None:
    second = sample("b") + member("c.jpg", b"x" * 600)

    cut = found_in(sample("a") + END + second[:-600], settings, tmp_path)

    assert cut == [("a", b"image"), ("b", b"image"), ("c", "truncated shard")]


def test_data_after_the_end_of_the_archive_are_one_row(settings: config.Settings, tmp_path: Path) -> None:
    assert found_in(sample("a") + bytes(10_000), settings, tmp_path) == [("a", b"image")]

    rows = rows_of(sample("a") + END + b"<html>" * 300, settings, tmp_path)

    assert [(row.key, row.reason) for row in rows] == [("a", None), ("0.tar", "corrupt shard")]
    assert rows[1].detail == "data that are no tar member follow the end of the archive, at byte 3072 of 4872"


def test_links_give_the_bytes_of_their_target(settings: config.Settings, tmp_path: Path) -> None:
    data = (
        member("d/a.jpg", b"original") + member("d/a.txt", b"one")
        + block("b.jpg", kind=tarfile.LNKTYPE, link="./d/a.jpg") + member("b.txt", b"two")
        + block("d/c.jpg", kind=tarfile.SYMTYPE, link="a.jpg") + block("d/c.txt", kind=tarfile.SYMTYPE, link="../b.txt")
        + END
    )  # fmt: skip

    rows = rows_of(data, settings, tmp_path)

    assert [(row.key, row.caption, row.image) for row in rows] == [
        ("d/a", "one", b"original"), ("b", "two", b"original"), ("d/c", "two", b"original")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "link", "detail"),
    [
        (tarfile.LNKTYPE, "z.jpg", "b.jpg is a hard link to z.jpg, which is no plain file of a sample before it"),
        (tarfile.SYMTYPE, "b.jpg", "b.jpg is a symbolic link to b.jpg, which is no plain file of a sample before it"),
        (tarfile.SYMTYPE, "/etc/a.jpg", "b.jpg is a symbolic link to /etc/a.jpg, which is no plain file"),
        (tarfile.SYMTYPE, "../a.jpg", "b.jpg is a symbolic link to ../a.jpg, which is no plain file"),
        (tarfile.FIFOTYPE, "", "b.jpg is a named pipe"),
        (tarfile.CHRTYPE, "", "b.jpg is a device"),
        (b"Q", "", "b.jpg is a member of type b'Q'"),
    ],
)
def test_an_image_that_is_no_file_is_one_row(
    settings: config.Settings, tmp_path: Path, kind: bytes, link: str, detail: str
) -> None:
    data = sample("a") + block("b.jpg", kind=kind, link=link) + member("b.txt", b"two") + sample("c") + END

    rows = rows_of(data, settings, tmp_path)

    assert [(row.key, row.caption, row.reason) for row in rows] == [
        ("a", "a", None), ("b", "two", "not a file"), ("c", "c", None)
    ]  # fmt: skip
    assert (rows[1].detail or "").startswith(detail)


def test_a_caption_that_is_no_file_is_noted(settings: config.Settings, tmp_path: Path) -> None:
    links = block("a.txt", kind=tarfile.SYMTYPE, link="z") + block("lib.so", kind=tarfile.SYMTYPE, link="z")
    folders = block("b.jpg/", kind=tarfile.DIRTYPE)

    (row,) = rows_of(member("a.jpg", b"1") + links + folders + END, settings, tmp_path)

    assert (row.key, row.caption, row.image) == ("a", None, b"1")
    assert json.loads(row.meta)["txt_fault"].startswith("a.txt is a symbolic link to z")


@pytest.mark.parametrize("name", ["a.tar", "a.TGZ", "a.tar.GZ", "a.tar.gz"])
def test_gzip_is_recognised_by_its_content(settings: config.Settings, tmp_path: Path, name: str) -> None:
    for data in (sample("a") + END, gzip.compress(sample("a") + END)):
        assert [(row.key, row.image) for row in rows_of(data, settings, tmp_path, name)] == [("a", b"image")]


def test_damaged_gzip_is_a_row_even_if_what_it_gives_looks_whole(settings: config.Settings, tmp_path: Path) -> None:
    packed = gzip.compress(sample("a") + END, mtime=0)
    *sound, fault = rows_of(packed[:-8], settings, tmp_path)
    assert [row.key for row in sound] == ["a"] and (fault.key, fault.reason) == ("0.tar", "corrupt shard")
    assert (fault.detail or "").startswith("its gzip data end too early, so that samples may be missing")
    other_sum = packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:]
    assert found_in(other_sum, settings, tmp_path)[-1] == ("0.tar", "corrupt shard")
    # Zeros at the end, and several streams in one file, are no damage.
    second = gzip.compress(sample("b") + END)
    assert found_in(packed + bytes(3 << 16), settings, tmp_path) == [("a", b"image")]
    assert found_in(packed + second + b"\0", settings, tmp_path) == [("a", b"image"), ("b", b"image")]
    assert found_in(packed + second[:-8], settings, tmp_path)[-1] == ("0.tar", "corrupt shard")


@pytest.mark.parametrize(
    ("data", "name"),
    [(bz2.compress(b"1"), "bzip2"), (lzma.compress(b"1"), "xz"), (b"\x28\xb5\x2f\xfd" + bytes(600), "zstd")],
)
def test_other_compression_is_one_row_that_names_it(
    settings: config.Settings, tmp_path: Path, data: bytes, name: str
) -> None:
    (row,) = rows_of(data, settings, tmp_path)

    assert (row.key, row.reason) == ("0.tar", "unsupported")
    assert (row.detail or "").startswith(f"compressed with {name}, which is not read: ")


def test_a_member_named_like_a_compression_is_read(settings: config.Settings, tmp_path: Path) -> None:
    assert found_in(sample("BZh9") + END, settings, tmp_path) == [("BZh9", b"image")]


def test_sparse_members_are_expanded(settings: config.Settings, tmp_path: Path) -> None:
    data = sparse("a.jpg", 2000, {0: b"head", 1000: b"middle"}) + sample("b") + END

    assert found_in(data, settings, tmp_path) == [
        ("a", b"head" + bytes(996) + b"middle" + bytes(994)), ("b", b"image")
    ]  # fmt: skip


@pytest.mark.parametrize("major", ["", "0"])
def test_sparse_members_of_extended_headers_are_expanded(settings: config.Settings, tmp_path: Path, major: str) -> None:
    entry = tarfile.TarInfo("GNUSparseFile.0/a.jpg")
    stored = b"headtail"
    if major:
        entry.pax_headers = {"GNU.sparse.map": "0,4,96,4", "GNU.sparse.size": "100"}
    else:
        stored = b"2\n0\n4\n96\n4\n".ljust(512, b"\0") + stored
        entry.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "100"}
    entry.pax_headers["GNU.sparse.name"] = "a.jpg"
    entry.size = len(stored)
    data = entry.tobuf(tarfile.PAX_FORMAT) + padded(stored) + sample("b") + END

    assert found_in(data, settings, tmp_path) == [("a", b"head" + bytes(92) + b"tail"), ("b", b"image")]


@pytest.mark.parametrize("pieces", [{100: b"x", 0: b"y"}, {1995: b"too long"}], ids=["not in order", "beyond the end"])
def test_an_invalid_map_of_holes_is_one_row(
    settings: config.Settings, tmp_path: Path, pieces: dict[int, bytes]
) -> None:
    data = sample("a") + sparse("b.jpg", 2000, pieces) + member("b.txt", b"two") + sample("c") + END

    assert found_in(data, settings, tmp_path) == [("a", b"image"), ("b", "corrupt shard"), ("c", b"image")]


@pytest.mark.parametrize("stored", [1 << 40, 1 << 70, 100_000])
def test_an_impossible_stored_size_of_a_sparse_member_costs_one_sample(
    settings: config.Settings, tmp_path: Path, stored: int
) -> None:
    data = sample("a") + sparse("b.jpg", 100, {0: b"head"}, stored) + member("b.txt", b"two") + sample("c") + END

    assert found_in(data, settings, tmp_path) == [("a", b"image"), ("b", "corrupt shard"), ("c", b"image")]


def test_holes_are_limited(settings: config.Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "_MOST_HOLE_BYTES", 5000)
    data = sparse("a.jpg", 3000, {0: b"1"}) + sparse("b.jpg", 3000, {0: b"2"}) + sample("c") + END

    assert found_in(data, settings, tmp_path) == [
        ("a", b"1" + bytes(2999)), ("b", "file too large"), ("c", b"image")
    ]  # fmt: skip


@pytest.mark.parametrize("size", [1 << 45, 1 << 70, -1536, -1, 100_000])
def test_an_impossible_size_costs_one_sample(settings: config.Settings, tmp_path: Path, size: int) -> None:
    data = sample("a") + member("b.jpg", b"image", size) + member("b.txt", b"two") + sample("c") + END

    rows = rows_of(data, settings, tmp_path)

    assert [(row.key, row.reason) for row in rows] == [("a", None), ("b", "corrupt shard"), ("c", None)]
    assert rows[1].caption == "two" and f"b.jpg: a size of {size} bytes" in (rows[1].detail or "")


@pytest.mark.parametrize("size", [600, 1300])
def test_a_size_that_reaches_into_other_members_costs_its_sample(
    settings: config.Settings, tmp_path: Path, size: int
) -> None:
    data = sample("a") + member("b.jpg", b"image", size) + member("b.txt", b"x" * 900) + sample("c") + END

    assert found_in(data, settings, tmp_path) == [("a", b"image"), ("b", "corrupt shard"), ("c", b"image")]


def test_a_size_that_is_too_small_costs_only_its_member(settings: config.Settings, tmp_path: Path) -> None:
    data = member("a.jpg", b"x" * 2000, 600) + member("a.txt", b"a") + sample("b") + END

    rows = rows_of(data, settings, tmp_path)

    assert [row.key for row in rows] == ["a", "0.tar", "b"]
    assert [row.reason for row in rows] == [None, "corrupt shard", None]


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
@pytest.mark.parametrize("size", [1 << 45, -1536])
def test_an_absurd_header_costs_one_row(settings: config.Settings, tmp_path: Path, kind: bytes, size: int) -> None:
    data = sample("a") + block("header", size, kind) + padded(b"b.jpg") + sample("c") + END

    rows = rows_of(data, settings, tmp_path)

    assert [(row.key, row.reason) for row in rows] == [("a", None), ("0.tar", "corrupt shard"), ("c", None)]
    assert rows[1].detail == f"header at byte 2048 of {len(data)}: a header of {size} bytes"


def test_a_member_whose_header_became_an_absurd_one_is_named(settings: config.Settings, tmp_path: Path) -> None:
    damaged = block("b.jpg", 1 << 45, tarfile.GNUTYPE_LONGNAME) + padded(b"image") + member("b.txt", b"two")

    rows = rows_of(sample("a") + damaged + sample("c") + END, settings, tmp_path)

    assert [(row.key, row.caption, row.reason) for row in rows] == [
        ("a", "a", None), ("b", "two", "corrupt shard"), ("c", "c", None)
    ]  # fmt: skip


def test_a_member_whose_long_name_is_lost_is_not_read_under_its_short_name(
    settings: config.Settings, tmp_path: Path
) -> None:
    long = block("././@LongLink", 1 << 45, tarfile.GNUTYPE_LONGNAME) + padded(b"d" * 120 + b"/b.jpg\0")
    data = sample("a") + long + member("d" * 96 + ".jpg", b"image") + sample("c") + END

    assert found_in(data, settings, tmp_path) == [("a", b"image"), ("0.tar", "corrupt shard"), ("c", b"image")]


@pytest.mark.parametrize("record", [b"30 GNU.sparse.size=many bytes\n", b"0 path=b.jpg\n", b"12 size=-600\n"])
def test_absurd_values_in_an_extended_header_cost_one_row(
    settings: config.Settings, tmp_path: Path, record: bytes
) -> None:
    extended = block("header", len(record), tarfile.XHDTYPE) + padded(record)
    data = sample("a") + extended + member("b.jpg", b"image") + sample("c") + END

    found = found_in(data, settings, tmp_path)

    assert found[0] == ("a", b"image") and found[-1] == ("c", b"image")
    assert [reason for _, reason in found[1:-1] if isinstance(reason, str)] == ["corrupt shard"]


def test_headers_inside_each_other_are_one_row_and_end(settings: config.Settings, tmp_path: Path) -> None:
    nested = (block("././@LongLink", 8, tarfile.GNUTYPE_LONGNAME) + padded(b"x")) * 3000

    found = found_in(sample("a") + nested + sample("b") + END, settings, tmp_path)

    assert found[:2] == [("a", b"image"), ("0.tar", "corrupt shard")] and len(found) <= 4


def test_damage_before_the_first_header_costs_no_sample_after_it(settings: config.Settings, tmp_path: Path) -> None:
    assert found_in(b"\xff" * 700 + sample("a") + END, settings, tmp_path) == [
        ("0.tar", "corrupt shard"), ("a", b"image")
    ]  # fmt: skip
    assert found_in(b"\xff" * 7000, settings, tmp_path) == [("0.tar", "corrupt shard")]


def test_members_of_a_tar_in_a_shard_are_no_members_of_the_shard(settings: config.Settings, tmp_path: Path) -> None:
    data = sample("a") + member("a.tar", sample("inner") + END)

    assert found_in(data + END, settings, tmp_path) == [("a", b"image")]
    assert found_in(data, settings, tmp_path)[0] == ("a", b"image")
    assert "inner" not in [key for key, _ in found_in(data[:-1500], settings, tmp_path)]


def test_a_search_for_headers_gives_up_after_many_false_ones(
    settings: config.Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tar, "_MOST_CANDIDATES", 100)
    data = sample("a") + b"ustar" * 1000 + sample("b") + END

    assert found_in(data, settings, tmp_path) == [("a", b"image"), ("0.tar", "corrupt shard")]


def test_a_header_is_found_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "_CHUNK", 64)
    header = block("a.jpg")
    for start in (0, 1, 63, 64, 65, 700):
        shard = io.BytesIO(b"\xff" * start + header)
        assert tar._next_header(shard, 0, start + 512) == start
        assert tar._next_header(shard, start + 1, start + 512) is None
        assert tar._next_header(shard, 0, start) is None


def test_damage_at_each_place_loses_no_other_sample(settings: config.Settings, tmp_path: Path) -> None:
    """Overwrites each block of a shard in turn. Every other sample is read, and what is lost is a row."""
    keys = "abcde"
    whole = b"".join(sample(key) for key in keys) + END
    for place in range(0, len(whole) - len(END), 512):
        data = whole[:place] + b"\xee" * 512 + whole[place + 512 :]
        hit = keys[place // 2048]
        rows = rows_of(data, settings, tmp_path)

        assert {row.key for row in rows if row.caption and row.image == b"image" and not row.reason} >= set(keys) - {
            hit
        }
        assert len(rows) <= 7 and (place % 1024 or any(row.reason == "corrupt shard" for row in rows))
