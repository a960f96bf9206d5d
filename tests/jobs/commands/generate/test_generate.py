import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs.commands.generate import command as generate
from jobs.commands.generate.pictures.plan import PictureSet
from jobs.runtime.progress import Progress
from models.errors import WinnowError
from models.images import decoding

SMALL = PictureSet(count=50, seed=7, shard=20)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    generate.write(str(folder), SMALL, 1, Progress())
    return folder


def _digests(folder: Path) -> dict[str, str]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.slow
def test_same_seed_same_bytes_with_one_process_and_two(drawn: Path, tmp_path: Path) -> None:
    generate.write(str(tmp_path / "two"), SMALL, 2, Progress())

    assert _digests(tmp_path / "two") == _digests(drawn)


@pytest.mark.slow
def test_another_seed_draws_other_pictures(drawn: Path, tmp_path: Path) -> None:
    generate.write(str(tmp_path), PictureSet(count=20, seed=8, shard=20), 1, Progress())
    pictures = {digest for name, digest in _digests(drawn).items() if name[0] == "0"}

    assert pictures.isdisjoint(_digests(tmp_path).values())


def test_a_removed_shard_is_drawn_again_the_same(drawn: Path, tmp_path: Path) -> None:
    folder = tmp_path / "resumed"
    shutil.copytree(drawn, folder)
    shutil.rmtree(folder / "00001")
    (folder / "truth.parquet").unlink()
    (folder / ".00001.part").mkdir()  # what a killed run leaves
    (folder / ".00001.part" / "half.jpg").write_bytes(b"half")

    generate.write(str(folder), SMALL, 1, Progress())

    assert _digests(folder) == _digests(drawn)


def test_a_finished_shard_is_not_drawn_again(drawn: Path, tmp_path: Path) -> None:
    folder = tmp_path / "finished"
    shutil.copytree(drawn, folder)
    picture = next(iter((folder / "00000").glob("*.jpg")))
    picture.write_bytes(b"touched")

    generate.write(str(folder), SMALL, 1, Progress())

    assert picture.read_bytes() == b"touched"


def test_truth_matches_the_files(drawn: Path) -> None:
    truth = pq.read_table(drawn / "truth.parquet").to_pylist()
    listed = {}
    for metadata in drawn.glob("*/metadata.jsonl"):
        for line in metadata.read_text().splitlines():
            row = json.loads(line)
            listed[f"{metadata.parent.name}/{row['file_name']}"] = row["text"]
    files = {f"{file.parent.name}/{file.name}" for file in drawn.glob("*/*") if file.suffix != ".jsonl"}

    assert [row["index"] for row in truth] == list(range(SMALL.count))
    assert {row["file_name"]: row["caption"] for row in truth} == listed
    assert {row["file_name"] for row in truth} == files
    assert all(row["file_name"].rsplit(".", 1)[0] == row["key"] for row in truth)


def test_a_copy_names_its_drawing_and_a_drawing_none(drawn: Path) -> None:
    truth = {row["key"]: row for row in pq.read_table(drawn / "truth.parquet").to_pylist()}
    copies = [row for row in truth.values() if row["original"] is not None]

    assert len(copies) == pytest.approx(0.25 * SMALL.count, abs=3)
    for row in truth.values():
        assert row["group"] == (row["original"] or row["key"])
        assert (row["transform"] is None) == (row["original"] is None)
    for row in copies:
        drawing = truth[row["original"]]
        assert drawing["original"] is None
        assert (row["subject"], row["categories"]) == (drawing["subject"], drawing["categories"])


def test_every_file_decodes(drawn: Path) -> None:
    names = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF"}
    for row in pq.read_table(drawn / "truth.parquet").to_pylist():
        info = decoding.check((drawn / row["file_name"]).read_bytes(), max_megapixels=10)

        assert info.format == names[row["file_name"].rsplit(".", 1)[1]]
        assert min(info.width, info.height) >= 60


def test_the_written_copies_look_like_their_drawing(drawn: Path) -> None:
    truth = pq.read_table(drawn / "truth.parquet").to_pylist()

    def grey(key: str) -> np.ndarray:
        (file,) = drawn.glob(f"{key}.*")
        image = decoding.decode(file.read_bytes(), 64).convert("L").resize((16, 16), Image.Resampling.BOX)
        values = np.asarray(image, np.float64) - np.mean(np.asarray(image))
        return values.ravel() / np.linalg.norm(values)

    pairs = [(row["key"], row["original"]) for row in truth if row["original"] is not None]
    likeness = [float(grey(key) @ grey(original)) for key, original in pairs]
    others = [float(grey(key) @ grey(truth[0]["key"])) for key, original in pairs if original != truth[0]["group"]]

    assert np.median(likeness) > 0.9
    assert np.median(others) < 0.6


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("hello")

    with pytest.raises(WinnowError, match="not empty"):
        generate.run(str(tmp_path), 10, 0, Progress())


def test_a_folder_of_another_set_is_refused(drawn: Path) -> None:
    with pytest.raises(WinnowError, match="'seed': 7"):
        generate.run(str(drawn), 50, 8, Progress())


@pytest.mark.parametrize(("count", "seed"), [(0, 0), (5, -1)])
def test_impossible_numbers_are_refused(tmp_path: Path, count: int, seed: int) -> None:
    with pytest.raises(WinnowError, match="count must be 1 or more"):
        generate.run(str(tmp_path), count, seed, Progress())


def test_run_says_what_it_planted(tmp_path: Path) -> None:
    summary = generate.run(str(tmp_path), 40, 0, Progress())

    assert summary["pictures"] == 40
    assert summary["copies"] == pytest.approx(10, abs=2)
    assert summary["drawings"] == 40 - int(summary["copies"])
