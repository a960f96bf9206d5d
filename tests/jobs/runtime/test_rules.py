import re
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from jobs import invocation
from jobs.runtime import config
from models.errors import SettingsError

ROOT = Path(__file__).parents[3]
NAMES = sorted(file.stem for file in ROOT.glob("conf/rules/*.toml"))


def test_ready_made_rules_come_by_name_and_files_and_overrides_change_them(tmp_path):
    (tmp_path / "mine.toml").write_text('[filter.rules]\npunsafe = "width < 1"\nsmall = "width < 2"')

    found = config.load([tmp_path / "mine.toml"], ["filter.rules.small='width < 3'"], rules=["punsafe", "pwatermark"])

    assert found.filter.names == ["punsafe", "pwatermark", "small"]
    assert (found.filter.rules["punsafe"], found.filter.rules["small"]) == ("width < 1", "width < 3")
    assert "$.pwatermark" in found.filter.rules["pwatermark"]


def test_each_ready_made_rule_is_a_rule_of_its_name_and_the_help_has_them_all():
    assert NAMES == ["aesthetic", "punsafe", "pwatermark", "similarity"]
    for name in NAMES:
        assert config.load(rules=[name]).filter.names == [name]
        assert resources.files("conf").joinpath("rules", f"{name}.toml").is_file()
        assert re.search(rf"\b{name}\b", invocation._RULE.help)


def test_an_unknown_ready_made_rule_is_one_line_with_the_names():
    with pytest.raises(SettingsError) as misspelt:
        config.load(rules=["punsave"])
    with pytest.raises(SettingsError) as unlike:
        config.load(rules=["big"])

    have = f"only {', '.join(NAMES)}"
    assert str(misspelt.value) == f"there is no ready-made rule 'punsave', {have}: did you mean punsafe?"
    own = "give the file of your own rule with --conf FILE"
    assert str(unlike.value) == f"there is no ready-made rule 'big', {have}: {own}"


@pytest.mark.slow
def test_ready_made_rules_travel_in_the_zip(tmp_path):
    packed = tmp_path / "winnow.zip"
    subprocess.run([sys.executable, str(ROOT / "scripts/make_zip.py"), str(packed)], check=True, cwd=tmp_path)
    script = "from jobs.runtime import config; print(config.__file__, config.load(rules=['punsafe']).filter.names)"

    ran = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:] = [{str(packed)!r}, *sys.path]; {script}"],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip

    assert str(packed) in ran.stdout and "['punsafe']" in ran.stdout


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        (["filter.rules.a='true'", 'filter.words.a=["x"]'], "a is a rule and a list of words: give them different"),
        (
            ["filter.rules.a='true'", "filter.keep_top.a=0.3"],
            "a is a rule and a field of keep_top: give them different",
        ),
        (['categories.a={definition="d"}', 'filter.words.a=["x"]'], "a is a category and a list of words: give"),
        (["filter.keep_top.a=1"], "filter.keep_top.a = 1: input should be less than 1"),
        (["filter.keep_top.a=0.0"], "filter.keep_top.a = 0.0: input should be greater than 0"),
        (["filter.words.a=[]"], r"filter.words.a = \[\]: list should have at least 1 item"),
        (["filter.words.a='x'"], "filter.words.a = 'x': input should be a valid list"),
        (["filter.keep_top={'a: b'=0.3}"], "filter.keep_top.a: b"),
    ],
)
def test_wrong_rules_are_named(settings, fault):
    with pytest.raises(SettingsError, match=fault):
        config.load(overrides=settings)
