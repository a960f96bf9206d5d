"""Packs conf, jobs, models, udfs and winnow for `spark-submit --py-files`; same files, same bytes."""

import sys
import zipfile
from pathlib import Path

PACKAGES = ("conf", "jobs", "models", "udfs", "winnow")


def main(target: str) -> None:
    """Writes the zip file `target`."""
    root = Path(__file__).resolve().parent.parent
    files = sorted(
        f for package in PACKAGES for f in (root / package).rglob("*") if f.is_file() and "__pycache__" not in f.parts
    )
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.writestr(zipfile.ZipInfo(str(file.relative_to(root))), file.read_bytes(), zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    main(sys.argv[1])
