"""The package `winnow`: its names, the cost of its import, and its version."""

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import winnow
from jobs.commands import report
from jobs.facts import origin
from jobs.lake import marker

ROOT = Path(__file__).parents[2]


def run_in_new_process(code: str, folder: Path, path: Path) -> str:
    """Runs code in a new process and another folder, with Winnow only at `path`; returns what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(path)}
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert answer.returncode == 0, answer.stderr[-4000:]
    return answer.stdout.strip()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    file = tmp_path_factory.mktemp("dist") / "winnow.zip"
    subprocess.run([sys.executable, str(ROOT / "scripts" / "make_zip.py"), str(file)], check=True)
    yield file


def test_each_public_name_exists_and_is_documented() -> None:
    table = [line.split("`")[1] for line in (winnow.__doc__ or "").splitlines() if line.startswith("| `")]

    assert sorted(table) == sorted(winnow.__all__) and len(set(table)) == len(table)
    for name in set(winnow.__all__) - {"__version__"}:
        assert (getattr(winnow, name).__doc__ or "").strip(), name


@pytest.mark.slow
def test_the_import_starts_no_session_and_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import json, sys, winnow\n"
        "from pyspark import SparkContext\n"
        "print(json.dumps(['torch' in sys.modules, 'onnx' in sys.modules, SparkContext._active_spark_context is None,"
        " SparkContext._gateway is None]))"
    )

    assert json.loads(run_in_new_process(code, tmp_path, ROOT)) == [False, False, True, True]


@pytest.mark.slow
def test_the_zip_has_the_version_and_marks_its_packages_as_typed(archive: Path, tmp_path: Path) -> None:
    code = (
        "import importlib.metadata as metadata, json\n"
        "def missing(name): raise metadata.PackageNotFoundError(name)\n"
        # As on a cluster, where no package of that name is installed.
        "metadata.version = missing\n"
        "import winnow\n"
        "from jobs.commands import report\n"
        "from jobs.facts import origin\n"
        "from jobs.lake import marker\n"
        "print(json.dumps([winnow.__file__, winnow.__version__, json.loads(marker.written())['winnow'],"
        " origin.software()['winnow'], origin.software()['numpy'], dict(report._software())['winnow']]))"
    )

    file, *versions = json.loads(run_in_new_process(code, tmp_path, archive))

    assert file.startswith(str(archive))
    assert versions == [winnow.__version__] * 3 + ["unknown", winnow.__version__]
    with zipfile.ZipFile(archive) as members:
        assert {f"{room}/py.typed" for room in ("jobs", "models", "udfs", "winnow")} <= set(members.namelist())


def test_the_version_is_the_same_everywhere() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())

    assert "version" in settings["project"]["dynamic"] and "version" not in settings["project"]
    assert settings["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "jobs.runtime.version.VERSION"}
    assert json.loads(marker.written())["winnow"] == winnow.__version__
    assert origin.software()["winnow"] == dict(report._software())["winnow"] == winnow.__version__
