"""The arrows between the rooms, read off the imports."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOPS = ("models", "udfs", "jobs", "winnow")

FLOORS = (
    ("conf", "models"),
    ("models.images", "models.stats"),
    ("models.inference",),
    ("models.training",),
    ("udfs.arrays",),
    ("udfs.hashes",),
    ("udfs.images", "udfs.labels", "udfs.search", "udfs.text"),
    ("udfs.inference",),
    ("udfs",),
    ("jobs", "jobs.runtime"),
    ("jobs.lake", "jobs.sources"),
    ("jobs.facts", "jobs.job"),
    ("jobs.models_in_use", "jobs.pages", "jobs.scoring"),
    ("jobs.labels", "jobs.matching", "jobs.prerequisites"),
    ("jobs.commands",),
    ("jobs.commands.compare", "jobs.commands.run"),
    ("jobs.commands.demo",),
    ("winnow",),
    ("jobs.invocation",),
    ("jobs.cli",),
    ("jobs.__main__",),
)
"""Rooms from the ground up. A room imports itself and rooms of floors below its own."""

KNOW_DELTA = ("jobs/lake/lake.py", "jobs/lake/log.py", "jobs/sources/find.py")

# They run other commands. Any other command knows none but itself.
CONDUCTORS = ("jobs.commands.run", "jobs.commands.compare", "jobs.commands.demo")

ROOMS = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(path for top in TOPS for path in (ROOT / top).rglob("*.py"))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path) for path in FILES}


def room_of(module: str) -> str:
    """The smallest room that a module lies in; a command that is not listed is a room of its own on one floor."""
    parts = module.split(".")
    named = [".".join(parts[:size]) for size in range(len(parts), 0, -1)]
    room = next(name for name in named if name in ROOMS)
    is_command = room == "jobs.commands" and len(parts) > 2
    return ".".join(parts[:3]) if is_command else room


def floor_of(room: str) -> int:
    return ROOMS.get(room, ROOMS["jobs.commands"])


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Each module that a file imports, and whether it is imported as the file loads."""
    tree = ast.parse(path.read_text())
    at_load = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = [f"{module}.{a.name}" if f"{module}.{a.name}" in MODULES else module for a in node.names]
        for name in names:
            yield name, id(node) in at_load


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down_and_torch_stays_in_its_room(path: Path) -> None:
    relative, own = path.relative_to(ROOT), room_of(module_of(path))
    for name, at_load in imports(path):
        top = name.split(".")[0]
        if top in (*TOPS, "conf"):
            other = room_of(name)
            assert other == own or floor_of(other) < floor_of(own), f"{relative} ({own}) imports {name} ({other})"
        if top in ("torch", "onnx", "onnxscript"):
            assert own == "models.training", f"{relative} imports {name}"
        if name.startswith("models.training") and own != "models.training":
            assert not at_load, f"{relative} needs torch as soon as it is imported, not only when it trains"


def test_a_command_knows_no_other_command() -> None:
    for path in FILES:
        own = room_of(module_of(path))
        if not own.startswith("jobs.commands.") or own in CONDUCTORS:
            continue
        others = {room_of(name) for name, _ in imports(path) if name.startswith("jobs.commands.")} - {own}
        assert not others, f"{path.relative_to(ROOT)} imports {sorted(others)}"


def test_every_module_of_jobs_lies_in_a_room() -> None:
    flat = {path.stem for path in (ROOT / "jobs").glob("*.py")}
    assert flat == {"__init__", "__main__", "cli", "invocation", "job", "models_in_use", "prerequisites"}


@pytest.mark.parametrize("folder", sorted({path.parent for path in FILES}), ids=lambda path: str(path.name))
def test_no_room_has_more_files_than_one_looks_through(folder: Path) -> None:
    assert len([path for path in folder.glob("*.py") if path.stem != "__init__"]) <= 13


def test_only_the_lake_knows_its_tables_and_only_the_session_builds_one() -> None:
    for path in FILES:
        text, name = path.read_text(), str(path.relative_to(ROOT))
        # A user's own Delta table is a source like any other.
        assert "DeltaTable" not in text or name in KNOW_DELTA, name
        assert "SparkSession.builder" not in text or name == "jobs/runtime/session.py", name
