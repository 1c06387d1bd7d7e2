"""A real SLURM of one node on this machine, with pretended cards: munged, slurmctld and slurmd on loopback.

Needs root and the Debian packages slurmctld, slurmd, slurm-client and munge; no systemd, database or cgroups.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

DAEMONS = ("munged", "slurmctld", "slurmd")
CONFIGURATION = """\
ClusterName=ecsnet
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,bf_interval=5
GresTypes=gpu
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout={node_timeout}
MinJobAge=3600
KillWait={kill_wait}
JobRequeue=0
InactiveLimit=0
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=64000 Gres=gpu:{cards} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """The programs that are not installed."""
    return [name for name in (*DAEMONS, "sbatch", "squeue") if not shutil.which(name)]


class Slurm:
    """A cluster in a folder of its own.

    Attributes:
        environment: variables with which `sbatch` and the other programs talk to it.
    """

    def __init__(self, cards: int = 2, node_timeout: int = 10, kill_wait: int = 20) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="slurm"))  # short: sockets have names of 107 bytes at most
        self.folder.chmod(0o755)  # munged refuses a folder of root alone
        for name in ("etc", "run", "log", "state", "spool", "munge", "dev", "bin"):
            (self.folder / name).mkdir()
        host = socket.gethostname().split(".")[0]
        for number in range(cards):
            # plain files would be counted, but set no CUDA_VISIBLE_DEVICES
            os.mknod(self.folder / "dev" / f"nvidia{number}", 0o666 | 0o020000, os.makedev(1, 3))
        (self.folder / "munge" / "munge.key").write_bytes(secrets.token_bytes(128))
        (self.folder / "munge" / "munge.key").chmod(0o600)
        values = {
            "host": host, "folder": self.folder, "cards": cards, "node_timeout": node_timeout,
            "kill_wait": kill_wait, "controller_port": free_port(), "node_port": free_port(),
        }  # fmt: skip
        self._write("etc/slurm.conf", CONFIGURATION.format(**values))
        devices = f"{self.folder}/dev/nvidia[0-{cards - 1}]"
        self._write("etc/gres.conf", f"AutoDetect=off\nNodeName={host} Name=gpu File={devices}\n")
        # the job step of Snakemake's plugin takes SLURM_CONF away before it calls srun
        self._write(
            "bin/srun",
            f'#!/bin/sh\nSLURM_CONF={self.folder}/etc/slurm.conf exec {shutil.which("srun")} "$@"\n',
        )
        (self.folder / "bin/srun").chmod(0o755)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SLURM_")},
            "SLURM_CONF": f"{self.folder}/etc/slurm.conf",
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
        }

    def _write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def start(self) -> None:
        """Start all three; returns when the node is ready for jobs."""
        munge = self.folder / "munge"
        self._run(
            "munged", f"--key-file={munge}/munge.key", f"--socket={munge}/munge.socket",
            f"--pid-file={self.folder}/run/munged.pid", f"--log-file={self.folder}/log/munged.log",
            f"--seed-file={munge}/munged.seed",
        )  # fmt: skip
        self._run("slurmctld", "-f", f"{self.folder}/etc/slurm.conf")
        self.start_node()

    def start_node(self) -> None:
        self._run("slurmd", "-f", f"{self.folder}/etc/slurm.conf")
        self.wait_until(lambda: self.states() <= {"idle", "mixed", "allocated"}, "the node is not ready")

    def stop_node(self) -> None:
        """Kill the node's daemon: to the controller, the node is down soon."""
        self._kill("slurmd", signal.SIGKILL)

    def stop(self) -> None:
        """Cancel the jobs, end the daemons, and remove the folder."""
        with contextlib.suppress(subprocess.SubprocessError):
            self.call("scancel", "--user=root")
            self.wait_until(lambda: not self.jobs(), "jobs go on")
        for name in reversed(DAEMONS):
            self._kill(name, signal.SIGTERM)
        self._kill_lost()
        shutil.rmtree(self.folder, ignore_errors=True)

    def call(self, *words: str) -> str:
        """What a SLURM program prints."""
        result = subprocess.run(
            words, env=self.environment, text=True, capture_output=True, timeout=60, check=True
        )
        return result.stdout

    def states(self) -> set[str]:
        """States of the nodes, such as idle, mixed, down; "unknown" while nobody answers."""
        try:
            return set(self.call("sinfo", "-h", "-o", "%T").split()) or {"unknown"}
        except subprocess.SubprocessError:
            return {"unknown"}

    def jobs(self, *states: str) -> dict[str, str]:
        """Comments (`rule_<name>…`) of the jobs by number: those in the states, or all that wait or run."""
        wanted = ",".join(states or ("PENDING", "RUNNING", "COMPLETING"))
        lines = self.call("squeue", "-h", "-t", wanted, "-o", "%i %k").splitlines()
        return dict(line.split(" ", 1) for line in lines)

    def wait_until(self, condition, problem: str, seconds: float = 60) -> None:
        """Wait for a condition."""
        end = time.monotonic() + seconds
        while not condition():
            logs = "".join(path.read_text(errors="replace")[-2000:] for path in self.folder.glob("log/*.log"))
            assert time.monotonic() < end, f"{problem}: {self.states()}\n{logs}"
            time.sleep(0.2)

    def _run(self, *words: str) -> None:
        # with a closed standard input jobs would be held
        subprocess.run(words, env=self.environment, stdin=subprocess.DEVNULL, check=True, timeout=30)

    def _kill(self, name: str, number: int) -> None:
        path = self.folder / "run" / f"{name}.pid"
        with contextlib.suppress(OSError, ValueError):
            process = int(path.read_text())
            os.kill(process, number)
            end = time.monotonic() + 20
            while Path(f"/proc/{process}").exists() and time.monotonic() < end:
                time.sleep(0.1)

    def _kill_lost(self) -> None:
        """Kill processes of jobs whose node was down: without cgroups SLURM may lose sight of them."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("SLURM_CONF") == self.environment["SLURM_CONF"]:
                    process.kill()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def running(**settings: int) -> Iterator[Slurm]:
    """A cluster for the time of the block."""
    cluster = Slurm(**settings)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
