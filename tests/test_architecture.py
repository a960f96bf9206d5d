"""The arrows between the rooms, read off the imports."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {"models": {"models"}, "udfs": {"models", "udfs"}, "jobs": {"models", "udfs", "jobs", "conf"}}
FILES = sorted(path for room in ALLOWED for path in (ROOT / room).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Each imported module, and whether it is imported as the module loads."""
    tree = ast.parse(path.read_text())
    at_load = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            yield name, id(node) in at_load


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way_and_torch_stays_in_its_room(path: Path) -> None:
    relative = path.relative_to(ROOT)
    room, training = relative.parts[0], relative.parts[:2] == ("models", "training")
    for name, at_load in imports(path):
        top = name.split(".")[0]
        assert top not in ALLOWED or top in ALLOWED[room], f"{relative} imports {name}"
        if top in ("torch", "onnx", "onnxscript"):
            assert training, f"{relative} imports {name}"
        if name.startswith("models.training") and not training:
            assert not at_load, f"{relative} needs torch as soon as it is imported, not only when it trains"


def test_only_the_lake_knows_its_tables_and_only_the_session_builds_one() -> None:
    for path in FILES:
        text, name = path.read_text(), str(path.relative_to(ROOT))
        # A user's own Delta table is a source like any other.
        assert "DeltaTable" not in text or name in ("jobs/lake/lake.py", "jobs/sources/find.py"), name
        assert "SparkSession.builder" not in text or name == "jobs/runtime/session.py", name
