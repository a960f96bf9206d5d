import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from jobs.commands import settings
from jobs.runtime import config
from models.errors import WinnowError


def shown(*names: str, changed: bool = False, **given: list[str]) -> list[str]:
    """Returns the lines of settings, without those that say what they mean."""
    files = [Path(file) for file in given.pop("files", [])]
    text = settings.run(config.layers(files, **given), names, changed)  # type: ignore[arg-type]
    return [line for line in text.splitlines() if not line.startswith("    # ")]


def test_a_setting_has_its_value_origin_and_meaning_within_80_columns() -> None:
    text = settings.run(config.layers(overrides=["dedup.recall=0.98"]), ["dedup.recall", "dedup.nearest"], False)

    assert text == (
        "dedup.recall = 0.98  # --set; default: 0.99\n"
        "    # fraction of pairs within max_distance that the bands must find\n"
        "dedup.nearest = 1  # default\n"
        '    # "clusters": number of nearest clusters that an image belongs to in each\n'
        "    # clustering\n"
    )


def test_every_setting_is_listed_once_and_explained_by_one_sentence() -> None:
    lines = settings.run(config.layers(), [], False).splitlines()

    names = [line.removeprefix("# ").partition(" = ")[0] for line in lines if line and not line.startswith("    ")]
    own = {name for name in config.setting_names() if "NAME" not in name and ".model." not in name}
    sections = {name for name in own if any(other.startswith(f"{name}.") for other in own)}
    assert len(names) == len(set(names)) and set(names) == (own - sections) | {"categories"}
    assert all(len(line) < 80 for line in lines if line.startswith("    "))
    assert lines[0] == "seed = 0  # default"
    assert "encoder in each run" not in "".join(lines)  # the second sentence on seed
    unexplained = [line for line, after in pairwise(lines) if " = " in line and not after.startswith("    # ")]
    assert [line for line in unexplained if not line.startswith("    ")] == []


def test_the_origin_is_the_last_place_that_sets_it(tmp_path: Path) -> None:
    first, second = tmp_path / "a.toml", tmp_path / "b.toml"
    first.write_text(
        'seed = 1\n[dedup]\nstrict = true\n[encoder]\nmodel = {path = "a", size = [8, 8], layout = "NHWC"}'
    )
    second.write_text("seed = 2\n[weigh]\nfolds = 10")
    boats = tmp_path / "own"
    boats.mkdir()
    (boats / "boats.toml").write_text('definition = "b"')
    given = {"files": [str(first), str(second), str(boats)], "overrides": ["encoder.model.fit=pad"],
             "rules": ["punsafe"], "categories": ["nsfw"]}  # fmt: skip

    lines = shown(**given)

    assert f"seed = 2  # {second}; default: 0" in lines
    assert f"dedup.strict = true  # {first}; default: false" in lines
    assert f"weigh.folds = 10  # {second}" in lines
    assert f'encoder.model.layout = "NHWC"  # {first}; default: "NCHW"' in lines
    assert 'encoder.model.fit = "pad"  # --set; default: "squeeze"' in lines
    assert 'encoder.model.channels = "RGB"  # default' in lines
    assert f'categories.boats.definition = "b"  # {boats / "boats.toml"}' in lines
    assert "categories.boats.recall = 0.95  # default" in lines
    assert "categories.nsfw.threshold = 0.5  # --category nsfw; default: off" in lines
    assert any(line.startswith("filter.rules.punsafe = ") and line.endswith("  # --rule punsafe") for line in lines)


def test_a_table_that_a_later_file_replaces_leaves_no_origin(tmp_path: Path) -> None:
    files = []
    for number, model in enumerate(
        ('{path = "a", size = [8, 8], fit = "pad"}', '"auto"', '{path = "b", size = [8, 8]}')
    ):
        files.append(tmp_path / f"{number}.toml")
        files[-1].write_text(f"[encoder]\nmodel = {model}")

    lines = shown("encoder.model", files=[str(file) for file in files])

    assert 'encoder.model.fit = "squeeze"  # default' in lines and f'encoder.model.path = "b"  # {files[2]}' in lines


def test_a_setting_that_is_off_is_a_comment() -> None:
    assert shown("dedup.max_distance") == ["# dedup.max_distance = off  # default"]
    assert shown("dedup.max_distance", overrides=["dedup.max_distance=24"]) == [
        "dedup.max_distance = 24  # --set; default: off"
    ]


def test_changed_settings_are_a_settings_file(tmp_path: Path) -> None:
    odd = "spark.conf.spark.executor.memory=8g"
    given = ["dedup.strict=true", odd, 'filter.rules.small="""width < 9 -- \\"a\\"\nor height < 9"""', "seed=0",
             "filter.keep_top.größe=0.3", 'audit.keywords=["# no", "Bär"]', "train.hidden=4"]  # fmt: skip
    file = tmp_path / "mine.toml"

    file.write_text(settings.run(config.layers(overrides=given, categories=["nsfw"]), [], True))

    assert config.load([file]) == config.load(overrides=given, categories=["nsfw"])
    found = tomllib.loads(file.read_text())
    assert set(found) == {"dedup", "spark", "filter", "audit", "train", "categories"}
    assert found["dedup"] == {"strict": True} and "recall" not in found["categories"]["nsfw"]


def test_without_changes_there_is_only_a_comment() -> None:
    assert shown(changed=True) == shown("dedup", changed=True) == ["# these settings have their defaults"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("spark.hadoop.fs.s3a.secret.key", "HIDDEN"),
        ("spark.hadoop.fs.azure.account.key.mine.dfs.core.windows.net", "HIDDEN"),
        ("spark.executor.extraJavaOptions", "-Djavax.net.ssl.keyStorePassword=HIDDEN"),
        ("spark.sql.warehouse.dir", "s3a://KEY:HIDDEN@bucket/a"),
    ],
)
def test_secrets_are_hidden(name: str, value: str) -> None:
    for changed in (False, True):
        lines = shown(changed=changed, overrides=[f"spark.conf.{name}={value}", "spark.conf.spark.ui.port=4050"])
        assert f'# spark.conf."{name}" = (hidden)  # --set' in lines
        assert 'spark.conf."spark.ui.port" = "4050"  # --set' in lines
        assert "HIDDEN" not in "".join(lines)


def test_control_characters_are_shown(tmp_path: Path) -> None:
    file = tmp_path / "a\x1b[31m.toml"
    file.write_text('[export.card]\nname = "a\\u001b[31m\\u202eb\\u009b"')

    (line,) = shown("export.card.name", files=[str(file)])

    assert line.startswith(r'export.card.name = "a\u001b[31m\u202eb\x9b"  # ') and r"a\x1b[31m.toml" in line


def test_names_select_sections_settings_and_free_names() -> None:
    rules = ["filter.rules.small='true'", "filter.rules.smaller='true'"]
    assert shown("filter.rules.small", overrides=rules) == ['filter.rules.small = "true"  # --set']
    assert len(shown("filter.rules", overrides=rules)) == 2
    assert shown("filter.rules", "seed") == ["seed = 0  # default", "", "filter.rules = {}  # default"]
    assert all("dedup." in line for line in shown("dedup"))


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("dedup.recal", ": did you mean dedup.recall?"),
        ("recall", ": did you mean dedup.recall?"),
        ("dedupe", ": did you mean dedup?"),
        ("categories.nsfw.recal", ": did you mean categories.nsfw.recall?"),
        ("dedup.", ": did you mean dedup?"),
        ("zzz", ": `winnow settings` shows all"),
    ],
)
def test_a_name_that_does_not_exist_is_an_error(name: str, advice: str) -> None:
    with pytest.raises(WinnowError) as caught:
        shown("seed", name, categories=["nsfw"], changed=True)
    assert str(caught.value) == f"there is no setting or section {name!r}{advice}"
