"""`python -m jobs`, and the script for `spark-submit`."""

import sys
from pathlib import Path

# spark-submit puts the script's own folder first on the path, where a module such as `label` could hide another's.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]

from jobs.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
