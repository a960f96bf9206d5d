"""Checks the imports between packages."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOPS = ("models", "udfs", "jobs", "winnow")

LAYERS = (
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
    ("jobs.origins",),
    ("jobs.facts", "jobs.job"),
    ("jobs.models_in_use", "jobs.pages"),
    ("jobs.scoring",),
    ("jobs.decisions", "jobs.labels", "jobs.matching", "jobs.prerequisites"),
    ("jobs.commands",),
    ("jobs.commands.compare", "jobs.commands.run"),
    ("jobs.commands.demo",),
    ("winnow",),
    ("jobs.next_commands",),
    ("jobs.invocation",),
    ("jobs.cli",),
    ("jobs.__main__",),
)
"""Packages from the lowest layer up. A package imports itself and packages of lower layers."""

DELTA_FILES = ("jobs/lake/lake.py", "jobs/lake/log.py", "jobs/sources/find.py")

GRAPH_READER = Path("models/inference/onnx_graph.py")  # on the driver, so onnx is imported in the function

# These commands run other commands. All others import no other command.
ORCHESTRATORS = ("jobs.commands.run", "jobs.commands.demo")

PACKAGES = {package: layer for layer, packages in enumerate(LAYERS) for package in packages}
FILES = sorted(path for top in TOPS for path in (ROOT / top).rglob("*.py"))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path) for path in FILES}


def package_of(module: str) -> str:
    """Returns the smallest listed package of a module; a command that is not listed is a package of its own."""
    parts = module.split(".")
    parents = [".".join(parts[:size]) for size in range(len(parts), 0, -1)]
    package = next(name for name in parents if name in PACKAGES)
    is_command = package == "jobs.commands" and len(parts) > 2
    return ".".join(parts[:3]) if is_command else package


def layer_of(package: str) -> int:
    return PACKAGES.get(package, PACKAGES["jobs.commands"])


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Yields each module that a file imports, and whether the import runs when the file is loaded."""
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
def test_packages_import_only_lower_layers_and_only_training_imports_torch(path: Path) -> None:
    relative, own = path.relative_to(ROOT), package_of(module_of(path))
    for name, at_load in imports(path):
        top = name.split(".")[0]
        if top in (*TOPS, "conf"):
            other = package_of(name)
            assert other == own or layer_of(other) < layer_of(own), f"{relative} ({own}) imports {name} ({other})"
        if top in ("torch", "onnx", "onnxscript"):
            reads_graph = top == "onnx" and relative == GRAPH_READER and not at_load
            assert own == "models.training" or reads_graph, f"{relative} imports {name}"
        if name.startswith("models.training") and own != "models.training":
            assert not at_load, f"{relative} imports torch when it is loaded: import it in the function that trains"


def test_a_command_imports_no_other_command() -> None:
    for path in FILES:
        own = package_of(module_of(path))
        if not own.startswith("jobs.commands.") or own in ORCHESTRATORS:
            continue
        others = {package_of(name) for name, _ in imports(path) if name.startswith("jobs.commands.")} - {own}
        assert not others, f"{path.relative_to(ROOT)} imports {sorted(others)}"


def test_every_module_of_jobs_is_in_a_package() -> None:
    flat = {path.stem for path in (ROOT / "jobs").glob("*.py")}
    assert flat == {
        "__init__",
        "__main__",
        "cli",
        "invocation",
        "job",
        "models_in_use",
        "next_commands",
        "prerequisites",
    }


@pytest.mark.parametrize("folder", sorted({path.parent for path in FILES}), ids=lambda path: str(path.name))
def test_no_folder_has_too_many_files(folder: Path) -> None:
    assert len([path for path in folder.glob("*.py") if path.stem != "__init__"]) <= 13


def test_only_the_lake_uses_delta_and_only_one_module_builds_a_session() -> None:
    for path in FILES:
        text, name = path.read_text(), str(path.relative_to(ROOT))
        # jobs/sources/find.py is listed because a user's own Delta table can be a source.
        assert "DeltaTable" not in text or name in DELTA_FILES, name
        assert "SparkSession.builder" not in text or name == "jobs/runtime/session.py", name
