"""An error about an unknown name says which name may be meant."""

from pathlib import Path

import pytest

from jobs.runtime import config
from jobs.runtime.wording import did_you_mean
from models.errors import SettingsError, WinnowError

MODEL = 'path="m.onnx", size=[8, 8]'


@pytest.mark.parametrize(
    ("override", "unknown", "meant"),
    [
        ("dedup.max_distence=3", "dedup.max_distence", "dedup.max_distance"),
        ("dedupe.recall=0.9", "dedupe.recall", "dedup.recall"),
        ("dedupe={recall=0.9, nearest=2}", "dedupe", "dedup"),
        ("filter.tolerance=0.1", "filter.tolerance", "audit.tolerance"),
        ("max_bucket=9", "max_bucket", "dedup.max_bucket"),
        ("Seed=1", "Seed", "seed"),
        ("export.card.licence='MIT'", "export.card.licence", "export.card.license"),
        ("categories.cars={definition='c', recal=0.9}", "categories.cars.recal", "categories.cars.recall"),
        ("categories.cars={definition='c', model={" + MODEL + ", layot='NCHW'}}", "categories.cars.model.layot",
         "categories.cars.model.layout"),
        ("encoder.model={" + MODEL + ", channel='RGB'}", "encoder.model.channel", "encoder.model.channels"),
    ],
)  # fmt: skip
def test_an_unknown_setting_names_the_one_that_may_be_meant(override: str, unknown: str, meant: str) -> None:
    with pytest.raises(SettingsError) as caught:
        config.load(overrides=[override])
    assert str(caught.value) == f"1 wrong setting: {unknown}: there is no such setting: did you mean {meant}?"


def test_a_setting_that_is_like_no_other_has_no_suggestion() -> None:
    with pytest.raises(SettingsError, match=r"^1 wrong setting: zzz: there is no such setting$"):
        config.load(overrides=["zzz=1"])


def test_settings_in_files_are_compared_too(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[weigh]\nmax_wieght = 3\n[audits]\nmovers = 3")
    (tmp_path / "boats.toml").write_text('definition = "b"\nconfidense = 0.9')

    with pytest.raises(SettingsError) as settings:
        config.load([tmp_path / "mine.toml"])
    with pytest.raises(SettingsError) as category:
        config.load([tmp_path / "boats.toml"])

    assert str(settings.value) == (
        "2 wrong settings: weigh.max_wieght: there is no such setting: did you mean weigh.max_weight?; "
        "audits.movers: there is no such setting: did you mean audit.movers?"
    )
    assert str(category.value).endswith("confidense: there is no such setting: did you mean confidence?")


def test_names_of_categories_rules_and_lists_are_compared() -> None:
    boats = config.load(overrides=['categories.boats={definition="b"}'])
    with pytest.raises(
        WinnowError, match=r"^no category 'boat' in the settings, they have boats: did you mean boats\?$"
    ):
        boats.category("boat")
    with pytest.raises(WinnowError, match=r"^no category 'nsfv' in the settings, they have none: did you mean nsfw\?$"):
        config.load().category("nsfv")
    with pytest.raises(
        WinnowError, match=r"no category 'cars' in the settings, they have boats: give its file or folder"
    ):
        boats.category("cars")
    with pytest.raises(SettingsError, match=r"no ready-made category 'nfsw', only nsfw: did you mean nsfw\?$"):
        config.load(categories=["nfsw"])
    with pytest.raises(SettingsError, match=r"keyword list 'eng': choose one of .*\.toml file: did you mean en\?$"):
        config.load(overrides=['audit.lists=["eng"]'])


def test_a_very_long_name_is_not_compared() -> None:
    assert did_you_mean("recal", ["recall"]) and not did_you_mean("recall" * 100_000, ["recall"])
