"""A real Spark cluster on this machine: a master and two workers of one core each, on the loopback address."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyspark

from jobs.runtime.session import DELTA_JAR

ROOT = Path(__file__).parents[2]
SPARK_HOME = Path(pyspark.__file__).parent


@contextmanager
def standalone_cluster(folder: Path) -> Iterator[str]:
    """Runs a cluster while the block runs, and gives its address; logs and work folders are below the given folder."""
    port = _free_port()
    environment = {
        **os.environ, "SPARK_HOME": str(SPARK_HOME), "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable,
        "SPARK_WORKER_DIR": str(folder / "work"), "SPARK_NO_DAEMONIZE": "1",
    }  # fmt: skip
    spark_class, package = str(SPARK_HOME / "bin" / "spark-class"), "org.apache.spark.deploy"
    url = f"spark://127.0.0.1:{port}"
    web = str(_free_port())
    master = [f"{package}.master.Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", web]
    worker = [f"{package}.worker.Worker", "-c", "1", "-m", "1500m", "--host", "127.0.0.1", "--webui-port", "0", url]
    processes = []
    try:
        for number, command in enumerate((master, worker, worker)):
            log = (folder / f"daemon-{number}.log").open("wb")
            processes.append(subprocess.Popen([spark_class, *command], env=environment, stdout=log, stderr=log))
            time.sleep(3 if number == 0 else 0)
        yield url
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(timeout=30)


def submitted(cluster: str, folder: Path, arguments: Sequence[str]) -> "subprocess.Popen[str]":
    """Starts a command of Winnow on the cluster with `spark-submit`; its code comes from the zip alone.

    Args:
        cluster: The address of the cluster.
        folder: Where the zip and the working directory are.
        arguments: The command and its options.
    """
    archive = folder / "winnow.zip"
    subprocess.run([sys.executable, str(ROOT / "scripts" / "make_zip.py"), str(archive)], check=True)
    command = [
        str(SPARK_HOME / "bin" / "spark-submit"), "--master", cluster, "--packages", DELTA_JAR,
        "--py-files", str(archive), "--conf", "spark.executor.memory=1g", "--conf", "spark.sql.shuffle.partitions=3",
        str(ROOT / "jobs" / "__main__.py"), *arguments,
    ]  # fmt: skip
    # Another working directory and no PYTHONPATH: the code must come from the zip alone.
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYSPARK_GATEWAY_PORT")}
    environment |= {"SPARK_HOME": str(SPARK_HOME), "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, cwd=folder, stdout=pipe, stderr=pipe, text=True)


def executors(folder: Path) -> list[int]:
    """Returns the process ids of the executors of the cluster of a folder, which work below it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                is_executor = b"CoarseGrainedExecutorBackend" in (entry / "cmdline").read_bytes()
                if is_executor and (entry / "cwd").resolve(strict=True).is_relative_to(folder.resolve() / "work"):
                    found.append(int(entry.name))
            except OSError:  # it has ended, or belongs to somebody else
                continue
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
