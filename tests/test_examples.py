"""The training loader of docs/examples: both ways of using the weights give the weighted mean."""

import importlib.util
from itertools import chain
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from jobs.commands.export import webdataset
from jobs.commands.export.folder import Folder
from tests.jobs.samples import encoded

WEIGHTS = np.array([0.25, 0.5, 1.0, 2.25] * 30)
COLOURS = ("red", "lime", "blue", "white")


@pytest.fixture(scope="module")
def loader() -> ModuleType:
    path = Path(__file__).parents[1] / "docs" / "examples" / "loader.py"
    spec = importlib.util.spec_from_file_location("loader", path)
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
    webdataset.write(Folder(str(folder)), 0, samples[:70])
    webdataset.write(Folder(str(folder)), 1, samples[70:])
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
