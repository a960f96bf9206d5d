import io
import re
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from jobs.commands.generate.pictures import copies
from jobs.commands.generate.pictures.captions import caption
from jobs.commands.generate.pictures.drawing import draw
from jobs.commands.generate.pictures.encode import Encoding, encode
from jobs.commands.generate.pictures.motifs.overlays import OVERLAYS
from jobs.commands.generate.pictures.plan import (
    CATEGORIES,
    KINDS,
    MODES,
    PERSONS,
    PicturePlan,
    PictureSet,
    group_sizes,
    plan,
)
from jobs.commands.generate.pictures.scenes import Scene, compose
from jobs.commands.generate.pictures.shard import picture

MANY = PictureSet(count=10_000, seed=3)
FEW = PictureSet(count=400, seed=5)


def _of(made: PicturePlan, subject: str) -> NDArray[np.bool_]:
    return made.kind == KINDS.index(subject)


def _grey(image: Image.Image) -> NDArray[np.float64]:
    values = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX), np.float64)
    values -= values.mean()
    return values.ravel() / max(float(np.linalg.norm(values)), 1e-9)


def _drawing(pictures: PictureSet, index: int) -> Image.Image:
    return draw(pictures.seed, compose(pictures.seed, plan(pictures).role(index)))


@pytest.mark.parametrize("of_drawings", [False, True])
def test_quotas_hold_over_all_pictures_and_over_the_drawings(of_drawings: bool) -> None:
    made = plan(MANY)
    counted = made.original == np.arange(MANY.count) if of_drawings else np.ones(MANY.count, bool)
    flagged = made.category > 0
    total = counted.sum()

    shares = {person: (_of(made, person) & counted).sum() / total for person in PERSONS}
    within = {p: (_of(made, p) & counted & flagged).sum() / (_of(made, p) & counted).sum() for p in PERSONS}
    others = counted & ~_of(made, "woman") & ~_of(made, "man")

    assert shares == pytest.approx({"woman": 0.12, "man": 0.12, "child": 0.10}, abs=0.0005)
    assert within["woman"] == pytest.approx(0.168, abs=0.003)
    assert within["man"] == pytest.approx(0.09, abs=0.003)
    assert (others & flagged).sum() / others.sum() == pytest.approx(0.002, abs=0.0003)


def test_a_perfect_filter_shifts_the_keywords_as_wanted() -> None:
    made = plan(MANY)
    kept = made.category == 0

    shift = {p: _of(made, p)[kept].mean() / _of(made, p).mean() - 1 for p in ("woman", "man")}

    assert shift == pytest.approx({"woman": -0.14, "man": -0.06}, abs=0.003)


def test_a_quarter_are_copies_in_groups_from_two_to_hundreds() -> None:
    made = plan(MANY)
    groups, sizes = np.unique(made.original, return_counts=True)

    assert 1 - len(groups) / MANY.count == pytest.approx(0.25, abs=0.001)
    assert sizes.max() == 200
    assert (sizes == 2).sum() > 400
    assert np.array_equal(sizes, made.size[groups])
    assert (made.original[groups] == groups).all()
    assert (made.sibling[sizes[np.searchsorted(groups, made.original)] > 1] == -1).all()


def test_the_categories_are_even_and_each_has_a_rare_mode() -> None:
    made = plan(MANY)
    drawn = made.original == np.arange(MANY.count)
    for category in CATEGORIES[1:]:
        chosen = made.category == CATEGORIES.index(category)
        modes = np.bincount(made.mode[chosen & drawn], minlength=4) / (chosen & drawn).sum()

        assert chosen.sum() == pytest.approx((made.category > 0).sum() / 2, abs=1)
        assert 0.03 < modes[3] < 0.08
        assert modes[:3].min() > 0.27


def test_siblings_share_a_kind_and_differ_in_their_variant() -> None:
    made = plan(FEW)
    for first in np.unique(made.sibling[made.sibling >= 0]):
        members = np.flatnonzero(made.sibling == first)

        assert first in members
        assert sorted(made.variant[members]) == [0, 1, 2]
        assert len(set(made.kind[members])) == 1


@pytest.mark.parametrize(("copied", "largest"), [(1, 1), (7, 3), (1000, 60), (20_000, 399)])
def test_group_sizes_add_up(copied: int, largest: int) -> None:
    sizes = group_sizes(copied, largest)

    assert sizes.sum() == copied
    assert sizes[0] == largest
    assert sizes.min() >= 1


@pytest.mark.parametrize("count", [1, 2, 9, 40])
def test_small_sets_can_be_planned(count: int) -> None:
    made = plan(PictureSet(count, seed=0))

    assert len(made.kind) == count
    assert (made.original[made.original] == made.original).all()


def test_captions_name_their_subject_and_no_other() -> None:
    made = plan(MANY)
    words = {"woman": {"woman"}, "man": {"man"}, "child": {"child", "girl", "boy"}}
    every = set().union(*words.values())
    for index in range(600):
        role = made.role(index)
        tokens = set(re.findall(r"[a-z]+", caption(MANY.seed, compose(MANY.seed, role)).lower()))

        assert len(tokens & every) == (role.kind in words)
        assert tokens & every <= words.get(role.kind, set())
        assert bool(tokens & {"fireworks", "sparkler", "slime"}) == bool(role.category)


@pytest.mark.parametrize("name", sorted(copies.CHANGES))
def test_a_copy_looks_like_its_original_and_is_not_the_same(name: str) -> None:
    made = plan(FEW)
    indices = [i for i in range(40) if made.role(i).kind not in ("texture", "gradient")][:12]
    likeness, unlike, changed = [], [], []
    for index, other in zip(indices, indices[1:] + indices[:1], strict=True):
        image = _drawing(FEW, index)
        copy = copies.apply(image, (name,), np.random.default_rng(index))
        likeness.append(float(_grey(image) @ _grey(copy)))
        unlike.append(float(_grey(_drawing(FEW, other)) @ _grey(copy)))
        changed.append(copy.size != image.size or copy.tobytes() != image.tobytes())

    # Hue and grey leave a grey picture as it is, and a new encoding only shows in the file.
    assert np.mean(changed) > 0.6 or name == "reencode"
    assert np.median(likeness) > (0.55 if name in ("border", "shift") else 0.75)
    assert np.median(unlike) < 0.45


def test_two_drawings_do_not_look_alike() -> None:
    made = plan(FEW)
    drawn = [i for i in range(FEW.count) if made.original[i] == i and made.sibling[i] < 0][:150]

    pixels = np.stack([_grey(_drawing(FEW, index)) for index in drawn])
    likeness = pixels @ pixels.T - 2 * np.eye(len(drawn))

    assert likeness.max() < 0.95
    assert np.median(likeness.max(axis=1)) < 0.75


def test_siblings_look_nearly_the_same() -> None:
    made = plan(FEW)
    members = np.flatnonzero(made.sibling == made.sibling.max())

    first, second = (_drawing(FEW, int(index)) for index in members[:2])

    assert first.tobytes() != second.tobytes()
    assert _grey(first) @ _grey(second) > 0.8


def test_a_category_fills_much_of_the_picture() -> None:
    modes = {mode for category in CATEGORIES[1:] for mode in MODES[category]}
    assert set(OVERLAYS) == modes
    made = plan(MANY)
    for mode in sorted(modes):
        index = next(i for i in range(MANY.count) if made.role(i).mode == mode and made.original[i] == i)
        role = made.role(index)
        scene = compose(MANY.seed, role)
        plain = np.asarray(_draw_without(scene).convert("L"), np.float64)
        flagged = np.asarray(draw(MANY.seed, scene).convert("L"), np.float64)

        assert (np.abs(plain - flagged) > 12).mean() > 0.12, mode


def _draw_without(scene: Scene) -> Image.Image:
    return draw(MANY.seed, replace(scene, role=replace(scene.role, category="", mode="")))


def test_formats_sizes_and_modes_vary() -> None:
    files = [Image.open(io.BytesIO(picture(FEW, index))) for index in range(150)]

    assert {file.format for file in files} == {"JPEG", "PNG", "WEBP", "GIF"}
    assert {"RGB", "RGBA", "L"} <= {file.mode for file in files}
    assert len({file.size for file in files}) > 100


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "gif"])
def test_the_same_picture_under_two_names_is_two_files(extension: str) -> None:
    image, encoding = Image.new("RGB", (8, 8), "red"), Encoding(extension, 80, "RGB")

    first, second = (encode(image, encoding, name) for name in ("00000/1", "00000/2"))

    assert first != second
    assert Image.open(io.BytesIO(first)).tobytes() == Image.open(io.BytesIO(second)).tobytes()
