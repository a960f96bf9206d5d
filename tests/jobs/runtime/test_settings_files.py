import os
import re
from pathlib import Path

import pytest

from jobs.runtime import config, settings_files
from models.errors import SettingsError


def file_of(folder: Path, content: str | bytes) -> Path:
    file = folder / "mine.toml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def refused(file: Path, *overrides: str) -> str:
    """Returns the only line of the error that loading a file and single settings gives."""
    with pytest.raises(SettingsError) as caught:
        config.load([file] if file.suffix else [], overrides)
    assert not re.search(r"[\n\0]", str(caught.value)) and len(str(caught.value)) < 1000
    return str(caught.value)


# Files that nothing can use -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("x = " + "[" * 50_000, "it has too many brackets inside each other"),
        ("x = " + "[" * 100 + "]" * 100, "x.0.0… is nested more than 20 levels deep"),
        ("a." * 1000 + "a = 1", "a.a.a… is nested more than 20 levels deep"),
        ("seed = " + "9" * 5_000, "it holds a number with more than 64 bits"),
        ("seed = 0x" + "f" * 5_000, "seed is a number with more than 64 bits"),
        ("seed = \0", "it is not TOML: "),
        ('seed = "', "it is not TOML: "),
        (b"# \xff", "it is not UTF-8 text (byte 2)"),
        ("seed = 1".encode("utf-16"), "it is not UTF-8 text (byte 0)"),
        ('[encoder]\nmodel = "a\\u0000b"', "encoder.model holds a NUL character"),
        ('[categories.u]\ndefinition = "x"\nmodel = {path = "a\\u0000b", size = [8, 8]}',
         "categories.u.model.path holds a NUL character"),
        ('[audit]\nlists = ["en", "a\\u0000b.toml"]', "audit.lists.1 holds a NUL character"),
        ('[export.card]\n"a\\u0000b" = "x"', "is a name with a NUL character"),
        ('[encoder]\nmodel = "s3a://KEY:HIDDEN@bucket/m.onnx"', "encoder.model: s3a://… holds a password"),
        ('[export.card]\nurl = "https://host/a?sig=HIDDEN"', "export.card.url: https://… holds a secret"),
    ],
)  # fmt: skip
def test_a_file_that_nothing_can_use_is_one_line(tmp_path: Path, content: str | bytes, fault: str) -> None:
    file = file_of(tmp_path, content)

    said = refused(file)

    assert said.startswith(f"settings file {file}: ") and fault in said and "HIDDEN" not in said


def test_a_file_that_is_too_large_is_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings_files, "MOST_BYTES", 2_000_000)
    large = tmp_path / "large.toml"
    large.touch()
    os.truncate(large, 2_000_001)

    assert refused(large) == f"settings file {large}: it has more than 2 MB, too much for settings"


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    assert refused(missing) == f"settings file {missing}: it cannot be read: No such file or directory"


def test_all_faults_of_a_file_are_named_up_to_five(tmp_path: Path) -> None:
    file = file_of(tmp_path, "".join(f'[categories.c{number}]\ndefinition = "\\u0000"\n' for number in range(7)))

    said = refused(file)

    assert said.count("holds a NUL character") == 5 and said.endswith("; and 2 more")


def test_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    assert config.load([file_of(tmp_path, b"\xef\xbb\xbfseed = 7")]).seed == 7


def test_a_long_value_in_an_error_is_cut(tmp_path: Path) -> None:
    said = refused(file_of(tmp_path, f'seed = "{"x" * 100_000}"'))
    assert said.startswith("1 wrong setting: seed = 'xxx") and "…: input should be a valid integer" in said


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seed=" + "[" * 50_000, "--set seed: it has too many brackets inside each other"),
        ("seed=" + "9" * 5_000, "--set seed: it holds a number with more than 64 bits"),
        ("seed=0x" + "f" * 5_000, "--set seed is a number with more than 64 bits"),
        ("a." * 5_000 + "a=1", "--set a.a.a… is nested more than 20 levels deep"),
        ('encoder.model="a\\u0000b"', "--set encoder.model holds a NUL character"),
        ("encoder.model=s3a://KEY:HIDDEN@bucket/m.onnx", "--set encoder.model: s3a://… holds a password"),
    ],
)
def test_a_single_setting_that_nothing_can_use_is_one_line(override: str, said: str) -> None:
    found = refused(Path(), override)
    assert found.startswith(said) and "HIDDEN" not in found


@pytest.mark.parametrize("content", ["x = " + "[" * 50_000, "x = " + "9" * 5_000, b"\xff", "x = ["])
def test_a_list_of_words_that_cannot_be_read_is_one_line(tmp_path: Path, content: str | bytes) -> None:
    file = file_of(tmp_path, content)
    assert f"keyword list {file}: it " in refused(Path(), f'audit.lists=["{file}"]')


# Code that Spark would load -------------------------------------------------------------------------------------------

CODE = {
    "spark.archives": "a.zip", "spark.driver.extraClassPath": "a.jar", "spark.driver.extraJavaOptions": "-javaagent:a",
    "spark.driver.defaultJavaOptions": "-javaagent:a", "spark.executorEnv.PYTHONPATH": "evil",
    "spark.executor.extraJavaOptions": "-javaagent:a", "spark.extraListeners": "a.B", "spark.files": "a.py",
    "spark.hadoop.fs.s3a.aws.credentials.provider": "a.B", "spark.hadoop.fs.s3a.impl": "a.B", "spark.jars": "a.jar",
    "spark.hadoop.fs.s3a.connection.a.class": "a.B", "spark.jars.ivySettings": "a.xml", "spark.jars.packages": "a:b:1",
    "spark.jars.repositories": "https://host", "spark.plugins": "a.B", "spark.pyspark.python": "./evil",
    "spark.pyspark.driver.python": "./evil", "spark.python.daemon.module": "evil",
    "spark.python.worker.module": "evil", "spark.serializer": "a.B", "spark.shuffle.manager": "a.B",
    "spark.shuffle.sort.io.plugin.class": "a.B", "spark.sql.catalog.mine": "a.B", "spark.sql.extensions": "a.B",
    "spark.sql.hive.metastore.jars": "a.jar", "spark.sql.parquet.output.committer.class": "a.B",
    "spark.sql.queryExecutionListeners": "a.B", "spark.sql.adaptive.customCostEvaluatorClass": "a.B",
    "spark.submit.pyFiles": "a.py", "spark.yarn.dist.archives": "a.zip", "spark.unknown": "a",
    "spark.memory": "no prefix without its dot", " spark.executor.memory": "1g",
    "spark.hadoop.fs.s3a.endpoint": "https://host", "spark.hadoop.fs.s3a.connection.ssl.enabled": "false",
    "spark.hadoop.fs.s3a.access.key": "$" + "{env.AWS_SECRET_ACCESS_KEY}", "spark.sql.files.ignoreCorruptFiles": "true",
    "spark.databricks.delta.properties.defaults.logRetentionDuration": "interval 1 day",
    "spark.shuffle.mapStatus.compression.codec": "a.B",
}  # fmt: skip


def conf_of(folder: Path, conf: dict[str, str]) -> Path:
    return file_of(folder, "[spark.conf]\n" + "".join(f"{name!r} = {value!r}\n" for name, value in conf.items()))


@pytest.mark.parametrize("name", CODE)
def test_a_file_may_not_name_code_for_spark(tmp_path: Path, name: str) -> None:
    file = conf_of(tmp_path, {name: CODE[name], "spark.executor.memory": "2g"})

    assert refused(file) == (
        f"settings file {file}: spark.conf.{name} is not on the list of settings that load no code, so a file may not "
        f"set it: give it as `--set spark.conf.{name}=VALUE`, or add --trust-conf if you trust the file"
    )
    assert config.load([file], trust_conf=True).spark.conf[name] == CODE[name]
    assert config.load([file], [f"spark.conf.{name}=mine"]).spark.conf[name] == "mine"


@pytest.mark.parametrize(
    "name",
    ["spark.executor.memory", "spark.executor.cores", "spark.executor.instances", "spark.shuffle.file.buffer",
     "spark.sql.adaptive.enabled", "spark.sql.files.maxPartitionBytes", "spark.sql.codegen.factoryMode",
     "spark.databricks.delta.retentionDurationCheck.enabled", "spark.hadoop.fs.s3a.endpoint.region", "spark.local.dir",
     "spark.network.timeout", "spark.default.parallelism", "spark.sql.execution.arrow.pyspark.enabled",
     "spark.hadoop.fs.azure.account.key.jarstore.dfs.core.windows.net", "spark.dynamicAllocation.maxExecutors",
     "spark.sql.parquet.compression.codec"],
)  # fmt: skip
def test_a_file_may_set_what_loads_no_code(tmp_path: Path, name: str) -> None:
    assert config.load([conf_of(tmp_path, {name: "1"})]).spark.conf == {name: "1"}


def test_all_files_and_their_settings_are_named_in_one_line(tmp_path: Path) -> None:
    files = [conf_of(tmp_path / name, CODE) for name in "ab" if not (tmp_path / name).mkdir()]

    with pytest.raises(SettingsError) as caught:
        config.load(files)

    said = str(caught.value)
    assert "\n" not in said and all(str(file) in said for file in files)
    assert all(said.count(f"spark.conf.{name}") >= 2 for name in CODE)


@pytest.mark.parametrize(
    ("master", "allowed"),
    [("local", True), ("local[4]", True), ("local[*]", True), ("local[2, 3]", True), ("yarn", True),
     ("spark://host:7077", False), ("k8s://https://host", False), ("local-cluster[2,1,1024]", False)],
)  # fmt: skip
def test_a_file_may_name_this_machine_or_yarn_as_master(tmp_path: Path, master: str, allowed: bool) -> None:
    file = file_of(tmp_path, f'[spark]\nmaster = "{master}"')
    if allowed:
        assert config.load([file]).spark.master == master
    else:
        assert "spark.master is not on the list of settings that load no code" in refused(file)
        assert config.load([file], ["spark.master=local"]).spark.master == "local"


def test_settings_of_a_wrong_type_are_still_named_as_such(tmp_path: Path) -> None:
    for content in ("spark = 1", "[spark]\nconf = 1", "[spark.conf]\nspark.executor.memory = '1g'"):
        said = refused(file_of(tmp_path, content))
        assert "spark" in said and "load no code" not in said


def test_the_settings_of_the_command_line_and_of_conf_are_trusted() -> None:
    assert config.load(overrides=["spark.conf.spark.jars.packages=a:b:1"]).spark.conf == {
        "spark.jars.packages": "a:b:1"
    }
    root = Path(__file__).parents[3] / "conf"
    assert config.load([root / "winnow.toml", root / "demo.toml"]).categories
