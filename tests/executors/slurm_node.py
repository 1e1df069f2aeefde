"""A real SLURM of one node, from Debian's packages, for the time of a test.

Installed (`apt-get install slurmctld slurmd slurm-client munge`), or unpacked with `dpkg -x` into
the folder that SLURM_ROOT names. Its daemons run as root, without cgroups and without accounting.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

ROOT: Final = Path(os.environ.get("SLURM_ROOT", "/"))
PATIENCE_S: Final = 60


def is_here() -> bool:
    """Return whether SLURM's daemons are there and may be started."""
    return os.getuid() == 0 and (ROOT / "usr/sbin/slurmctld-wlm").exists()


class SlurmNode:
    """A node of this machine's cores, up when the constructor returns."""

    def __init__(self, folder: Path, cores: int = 2) -> None:
        """Start munge, the controller and the node with all their files in `folder`."""
        self.folder = folder
        libraries = ROOT / "usr/lib/x86_64-linux-gnu"
        #: Variables of the commands that talk to it.
        self.environment = {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "LD_LIBRARY_PATH": f"{libraries}:{libraries}/slurm-wlm",
            "PATH": f"{folder}/bin:{ROOT}/usr/bin:{os.environ['PATH']}",
        }
        for name in ("state", "spool", "bin"):
            (folder / name).mkdir(parents=True)
        for name in ("sbatch", "squeue", "scancel", "scontrol", "srun", "sinfo"):
            installed = next(iter((ROOT / "usr/bin").glob(f"{name}*")))
            (folder / "bin" / name).symlink_to(installed)
        self._started: list[subprocess.Popen[bytes]] = []
        key, self._socket = folder / "munge.key", folder / "munge.socket"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        folder.chmod(0o755)
        self._configure(cores)
        munged = ["munged", "--foreground", "--force", f"--key-file={key}"]
        munged += [f"--socket={self._socket}", f"--pid-file={folder}/munge.pid"]
        munged += [f"--seed-file={folder}/munge.seed", f"--log-file={folder}/munge.log"]
        self._start(*munged)
        self._wait(self._socket.exists)
        self._start("slurmctld-wlm", "-D", "-c", "-f", str(folder / "slurm.conf"))
        step = ["-d", str(ROOT / "usr/sbin/slurmstepd-wlm")]
        self._start("slurmd-wlm", "-D", "-f", str(folder / "slurm.conf"), *step)
        self._wait(lambda: "idle" in self.run("sinfo", "-h", "-o", "%T"))

    def run(self, *command: str) -> str:
        """Return the output of one of SLURM's commands."""
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, **self.environment}
        )
        return done.stdout

    def close(self) -> None:
        """End the jobs, then the daemons."""
        self.run("scancel", "--user=root")
        for daemon in reversed(self._started):
            with suppress(psutil.NoSuchProcess):
                for child in psutil.Process(daemon.pid).children(recursive=True):
                    child.kill()
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def _start(self, program: str, *options: str) -> None:
        with (self.folder / f"{program}.out").open("wb") as output:
            self._started.append(
                subprocess.Popen(
                    [shutil.which(program, path=f"{ROOT}/usr/sbin") or program, *options],
                    stdout=output,
                    stderr=output,
                    env={**os.environ, **self.environment},
                )
            )

    def _wait(self, is_up: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not is_up():
            if time.monotonic() > deadline:
                logs = "\n".join(f.read_text("utf-8", "replace") for f in self.folder.glob("*.out"))
                self.close()
                raise AssertionError(f"SLURM did not start:\n{logs[-3000:]}")
            time.sleep(0.2)

    def _configure(self, cores: int) -> None:
        host, folder = socket.gethostname(), self.folder
        ports = [_free_port(), _free_port()]
        plugins = ROOT / "usr/lib/x86_64-linux-gnu/slurm-wlm"
        lines = [
            "ClusterName=test",
            f"SlurmctldHost={host}(127.0.0.1)",
            f"SlurmctldPort={ports[0]}",
            f"SlurmdPort={ports[1]}",
            "AuthType=auth/munge",
            f"AuthInfo=socket={self._socket}",
            "CredType=cred/munge",
            f"PluginDir={plugins}",
            "MpiDefault=none",
            "SlurmUser=root",
            "SlurmdUser=root",
            f"StateSaveLocation={folder}/state",
            f"SlurmdSpoolDir={folder}/spool",
            f"SlurmctldPidFile={folder}/slurmctld.pid",
            f"SlurmdPidFile={folder}/slurmd.pid",
            f"SlurmctldLogFile={folder}/slurmctld.log",
            f"SlurmdLogFile={folder}/slurmd.log",
            "ProctrackType=proctrack/pgid",
            "TaskPlugin=task/none",
            "JobAcctGatherType=jobacct_gather/none",
            "AccountingStorageType=accounting_storage/none",
            "SelectType=select/cons_tres",
            "SelectTypeParameters=CR_Core",
            "SwitchType=switch/none",
            "ReturnToService=2",
            "JobRequeue=1",
            "KillWait=5",
            "SchedulerParameters=sched_interval=5",
            f"NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN",
            f"PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP",
        ]
        (folder / "slurm.conf").write_text("\n".join(lines) + "\n", "utf-8")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
