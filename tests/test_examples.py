"""The examples of docs/examples: the notebook finds what a lake holds, and the loader's ways of using weights agree."""

import importlib.util
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from jobs.commands.export import webdataset
from jobs.commands.export.folder import Folder
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe
from tests.builders.hashes import flipped, random_hashes
from tests.builders.images import pattern
from tests.builders.sources import encoded
from udfs.hashes.pdq import pdq_of

WEIGHTS = np.array([0.25, 0.5, 1.0, 2.25] * 30)
COLOURS = ("red", "lime", "blue", "white")


EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


@pytest.mark.slow
def test_the_notebook_shows_a_lake_and_finds_own_images_in_it(lake: Lake, tmp_path: Path) -> None:
    pictures = {name: Image.fromarray(pattern(seed)) for seed, name in enumerate("abc")}
    mine = tmp_path / "mine" / "deep"
    mine.mkdir(parents=True)
    pictures["b"].save(mine / "copy.jpg")
    Image.fromarray(pattern(9)).save(mine / "other.png")
    (mine / "broken.png").write_bytes(b"no image")
    hashes = {name: pdq_of(image) for name, image in pictures.items()}
    others = (None,) * (len(tables.SIGNALS.schema) - 3)
    signals = [(name, pdq, quality, *others) for name, (pdq, quality) in hashes.items()]
    reasons = {"a": ["cats: score 0.995 >= 0.420", "small"], "b": ["cats: score 0.421 >= 0.420"], "c": []}
    verdicts = [(name, not found, found, None) for name, found in reasons.items()]
    for table, rows in ((tables.SIGNALS, signals), (tables.VERDICTS, verdicts)):
        lake.replace(table, lake.spark.createDataFrame(rows, table.schema), Recipe(table.maker))
    threshold = [("cats", "m", 0.5, 0.9, 0.95, 60, 40, 1, 2, 0, "labels")]
    lake.replace(
        tables.THRESHOLDS, lake.spark.createDataFrame(threshold, tables.THRESHOLDS.schema), Recipe("calibrate")
    )
    code = (EXAMPLES / "notebook.py").read_text()
    assert '"/data/lake"' in code and '"/data/new-pictures"' in code

    shown: dict[str, Any] = {}
    code = code.replace('"/data/lake"', repr(lake.uri)).replace('"/data/new-pictures"', repr(str(mine.parent)))
    exec(compile(code, "notebook.py", "exec"), shown)

    assert shown["reasons"].to_numpy().tolist() == [["cats: score", 2], ["small", 1]]
    assert shown["thresholds"].to_numpy().tolist() == [["cats", 0.5, 0.9, 0.95]]
    assert [(Path(row.path).name, row.image_id) for row in shown["near"].itertuples()] == [("copy.jpg", "b")]


@pytest.fixture(scope="module")
def loader() -> ModuleType:
    spec = importlib.util.spec_from_file_location("loader", EXAMPLES / "loader.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    """Two shards of one-coloured pictures, the colour in the caption and a weight for each."""
    folder = tmp_path_factory.mktemp("shards")
    samples = [
        {
            "export_key": f"{n:06d}", "image_id": f"{n:032x}", "key": str(n), "source": "s", "format": "PNG",
            "image": encoded(COLOURS[n % 4]), "caption": COLOURS[n % 4], "weight": float(weight), "meta": "{}",
            "width": 8, "height": 6,
        }
        for n, weight in enumerate(WEIGHTS)
    ]  # fmt: skip
    for number, own in enumerate((samples[:70], samples[70:])):
        shard = webdataset.TarShard(Folder(str(folder)), number)
        for sample in own:
            shard.add(sample)
        shard.close()
    return folder


def test_each_image_comes_once_with_its_weight(loader, shards):
    found = list(loader.examples(shards))

    assert sorted(weight for _, _, weight in found) == sorted(WEIGHTS)
    assert all(picture.shape == (3, loader.SIZE, loader.SIZE) for _, picture, _ in found)
    assert [weight for _, _, weight in loader.examples(shards, 1)] != [weight for _, _, weight in found]


def test_sampling_and_loss_both_give_the_weighted_mean(loader, shards):
    pictures = torch.stack([picture for _, picture, _ in loader.examples(shards)])
    weights = torch.tensor([weight for *_, weight in loader.examples(shards)])
    exact = float((pictures.square().mean(dim=(1, 2, 3)) * weights).mean())

    by_loss = float(loader.weighted_loss(torch.zeros_like(pictures), pictures, weights))
    passes = list(chain(*[loader.resampled(loader.examples(shards), seed) for seed in range(40)]))
    by_sampling = float(np.sum([picture.square().mean() for _, picture, _ in passes])) / (40 * len(WEIGHTS))

    assert by_loss == pytest.approx(exact)
    # A weight's whole part is certain, so only its fraction f varies, by f(1 - f): 0.6 % of the mean.
    assert by_sampling == pytest.approx(exact, rel=0.03)
    assert {weight for *_, weight in passes} == {1.0}


@pytest.mark.parametrize("use", ["loss", "sampling"])
def test_the_toy_learns(loader, shards, use):
    history = loader.train(shards, use, epochs=6)

    assert history[-1] < 0.5 * history[0]


def test_the_online_index_finds_near_duplicates(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("online_index", EXAMPLES / "online_index.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    hashes = random_hashes(3_000)
    index = module.OnlineIndex([str(place) for place in range(3_000)], hashes)
    for bits, least in ((0, 300), (16, 297), (31, 280)):
        asked = flipped(hashes[:300], bits)
        found = [index.near(one.tobytes()) for one in asked]
        hits = [near for place, near in enumerate(found) if (str(place), bits) in near]
        assert len(hits) >= least
    assert not any(index.near(one.tobytes()) for one in random_hashes(200, seed=9))
