from pathlib import Path

import pytest

from models.errors import ModelError
from models.inference import onnx_session


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "packaged_model").mkdir()
    (tmp_path / "packaged_model" / "__init__.py").write_text("raise AssertionError('it was imported')")
    (tmp_path / "packaged_model" / "m.onnx").write_bytes(b"weights")
    monkeypatch.syspath_prepend(tmp_path)
    return "packaged_model"


def test_a_model_is_read_from_an_installed_package(package: str) -> None:
    assert onnx_session.read(f"package:{package}/m.onnx") == b"weights"


@pytest.mark.parametrize("file", ["other.onnx", ""])
def test_a_file_that_a_package_lacks_is_named(package: str, file: str) -> None:
    with pytest.raises(ModelError, match=f"package '{package}' has no file '{file}'"):
        onnx_session.read(f"package:{package}/{file}")


def test_the_error_for_a_missing_package_says_what_to_install() -> None:
    with pytest.raises(
        ModelError, match=r"^model file package:no_such_net/m\.onnx is .*: run `pip install no-such-net`$"
    ):
        onnx_session.read("package:no_such_net/m.onnx")
