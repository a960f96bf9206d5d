"""Paths and URIs of sources that need no Spark to be understood or refused."""

import hashlib
from pathlib import Path

import pytest

from jobs.sources import files, find
from models.errors import WinnowError


def test_a_colon_in_a_name_is_no_scheme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a:b.tar").write_bytes(b"")
    monkeypatch.chdir(tmp_path)

    assert files.absolute("a:b.tar") == str(tmp_path / "a:b.tar")
    assert files.kind(files.absolute("a:b.tar")) == "file"


@pytest.mark.parametrize("address", ["https://example.org/a.tar", "http://example.org/photos"])
def test_a_web_address_is_refused_with_what_to_do(address: str) -> None:
    with pytest.raises(WinnowError, match=r"is a web address, which is not read: download the files first"):
        files.kind(address)


def test_a_scheme_that_nothing_reads_is_refused_in_one_line() -> None:
    with pytest.raises(WinnowError, match=r"^oddly://host/a\.tar cannot be read: [^\n]+$"):
        files.kind("oddly://host/a.tar")


def test_a_dataset_saved_to_disk_is_named_as_such(tmp_path: Path) -> None:
    for name in ("data-00000-of-00001.arrow", "dataset_info.json", "state.json"):
        (tmp_path / name).write_bytes(b"{}")

    told = r"holds Arrow data, as `save_to_disk` .* `to_parquet`"
    with pytest.raises(WinnowError, match=told):
        find._guess_folder(str(tmp_path))
    with pytest.raises(WinnowError, match=told):
        find._guess_file(str(tmp_path / "data-00000-of-00001.arrow"))
    with pytest.raises(WinnowError, match=told):
        find._shards(str(tmp_path), "parquet", hashlib.sha256())
