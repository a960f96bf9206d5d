"""Prints in one line what this machine lacks, before anything is installed. Runs on any Python 3."""

import os
import shutil
import subprocess
import sys

MEMORY_GB = 6


def fault():
    """Returns the first thing that is missing, or None."""
    if sys.version_info < (3, 11):
        found = ".".join(map(str, sys.version_info[:2]))
        return f"found Python {found} ({sys.executable}), but Winnow needs 3.11 or newer: make PYTHON=python3.12 ..."
    return java_fault() or memory_fault()


def java_fault():
    """Returns what is wrong with Java, or None."""
    home = os.environ.get("JAVA_HOME")
    java = os.path.join(home, "bin", "java") if home else shutil.which("java")
    hint = "Winnow needs Java 17 or 21: install one (Debian: apt-get install openjdk-17-jre-headless) or set JAVA_HOME"
    if not java or not os.access(java, os.X_OK):
        return f"no Java found{' in JAVA_HOME=' + home if home else ' on PATH'}. {hint}"
    process = subprocess.run(
        [java, "-XshowSettings:properties", "-version"], stderr=subprocess.PIPE, text=True, check=False
    )
    if process.returncode:
        # Java begins with the variables it has read, then tells its first error.
        printed = process.stderr.strip().splitlines() or [f"exit code {process.returncode}"]
        reason = next((line for line in printed if not line.startswith("Picked up ")), printed[0])
        return f"{java} does not start: {reason} (check JAVA_TOOL_OPTIONS and JDK_JAVA_OPTIONS)"
    lines = [
        line.split("=")[1].strip() for line in process.stderr.splitlines() if "java.specification.version =" in line
    ]
    return None if lines and lines[0] in ("17", "21") else f"found Java {lines[0] if lines else '?'} at {java}. {hint}"


def memory_fault():
    """Returns what is wrong with the memory, or None; None also if the system does not say its size."""
    if not os.path.exists("/proc/meminfo"):
        return None
    with open("/proc/meminfo") as lines:
        total = int(next(line for line in lines if line.startswith("MemTotal")).split()[1]) / 2**20
    if total >= MEMORY_GB:
        return None
    return f"found {total:.1f} GB of memory, but Winnow's tests and demo need {MEMORY_GB} GB: use a larger machine"


if __name__ == "__main__":
    missing = fault()
    if missing:
        print(f"winnow: {missing}", file=sys.stderr)
        sys.exit(1)
