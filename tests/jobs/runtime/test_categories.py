import subprocess
import sys
from pathlib import Path

import pytest

from jobs.runtime import config
from models.errors import SettingsError, WinnowError

EXAMPLE = Path(__file__).parents[3] / "conf/categories/_example.toml"


def write(folder, **texts):
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(text)
    return folder


def test_a_folder_gives_a_category_for_each_file_except_the_example(tmp_path):
    folder = write(
        tmp_path / "categories", boats='definition = "b"\nrecall = 0.9\ninclude = ["rafts"]', cars='definition = "c"'
    )
    (folder / "_example.toml").write_text(EXAMPLE.read_text())

    found = config.load([folder], ["categories.cars.recall=0.8"]).categories

    assert sorted(found) == ["boats", "cars"]
    assert (found["boats"].recall, found["boats"].include, found["cars"].recall) == (0.9, ["rafts"], 0.8)


def test_a_copy_of_the_example_is_a_category(tmp_path):
    folder = write(tmp_path / "categories", fireworks=EXAMPLE.read_text())

    found = config.load([folder / "fireworks.toml"]).categories["fireworks"]

    assert found.include and found.exclude and found.recall == 0.95


def test_the_error_names_wrong_files_and_all_their_faults(tmp_path):
    folder = write(
        tmp_path / "categories", boats='recall = 2\ncolour = "red"', Cars='definition = "c"', fine='definition = "f"'
    )

    with pytest.raises(SettingsError) as caught:
        config.load([folder])

    text = str(caught.value)
    assert "boats.toml: 3 wrong settings" in text and "Cars.toml: rename it" in text and "fine" not in text
    assert all(key in text for key in ("definition: missing", "recall = 2", "colour: there is no such setting"))


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        ("seed=-1", "seed = -1: input should be greater than or equal to 0"),
        (
            'dedup.rank=["caption", "resolution", "caption"]',
            "dedup.rank = .*: value error, each name may appear once",
        ),
    ],
)
def test_an_error_names_a_setting_outside_its_limits(setting, fault):
    with pytest.raises(SettingsError, match=fault):
        config.load(overrides=[setting])


def test_a_folder_without_a_category_is_an_error(tmp_path):
    with pytest.raises(SettingsError, match="holds no category: copy"):
        config.load([write(tmp_path / "categories", _example='definition = "x"')])


def test_a_settings_file_may_hold_categories(tmp_path):
    file = write(tmp_path / "s", mine='seed = 7\n[categories.boats]\ndefinition = "b"') / "mine.toml"

    found = config.load([file])

    assert found.seed == 7 and list(found.categories) == ["boats"]


def test_a_ready_made_category_is_loaded_by_name_below_files_and_single_settings(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[categories.nsfw]\nthreshold = 0.8\nrecall = 0.7")

    plain = config.load(categories=["nsfw"]).categories["nsfw"]
    changed = config.load([file], ["categories.nsfw.recall=0.6"], categories=["nsfw"]).categories["nsfw"]

    assert plain.threshold == 0.5 and plain.model is not None
    assert (changed.threshold, changed.recall, changed.model) == (0.8, 0.6, plain.model)
    assert not config.load().categories


@pytest.mark.parametrize("name", ["cars", "_example", "", "../winnow"])
def test_the_error_for_an_unknown_ready_made_category_names_those_that_exist(name: str) -> None:
    with pytest.raises(SettingsError, match=f"no ready-made category '{name}', only nsfw: .* --conf FILE$"):
        config.load(categories=[name])


def test_a_missing_category_that_is_ready_made_is_offered() -> None:
    with pytest.raises(WinnowError, match="no category 'nsfw' in the settings, they have none: add --category nsfw"):
        config.load().category("nsfw")


def test_ready_made_categories_are_in_the_zip_for_clusters(tmp_path: Path) -> None:
    root, archive = Path(__file__).parents[3], tmp_path / "winnow.zip"
    subprocess.run([sys.executable, root / "scripts/make_zip.py", archive], check=True)
    code = "from jobs.runtime import config; print(config.__file__, *config.load(categories=['nsfw']).categories)"

    told = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(archive)}, cwd=tmp_path, capture_output=True, check=True
    )

    assert told.stdout.decode().split() == [str(archive / "jobs/runtime/config.py"), "nsfw"]
