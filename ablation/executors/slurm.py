"""Run work as SLURM jobs, through submitit.

Driver and jobs meet in a folder that all machines share: a job reads its work there, and appends
its events to a file. A cluster without accounting (sacct) tells only which jobs wait or run, so a
job that does neither, and has not ended by its own word, is lost. A job that SLURM preempts, or
that has run out of time, is requeued by submitit and starts anew.
"""

import base64
import contextlib
import pickle
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from ablation.core.errors import UsageError, first_line
from ablation.core.suggest import did_you_mean
from ablation.executors.protocol import WAIT_S, Event, Work
from ablation.executors.worker import run_work

#: Seconds between two questions to SLURM, which answers for all jobs at once.
POLL_S: Final = 5.0
#: A job counts as lost when SLURM did not name it so often in a row: its last words come through a
#: file system that may be slow, and a requeue takes a moment.
_MISSES: Final = 2
_GRACE_S: Final = 30.0
#: How often a job that has run out of time goes on; it goes on after its last epoch.
_REQUEUES: Final = 1000
#: Options by name: submitit's, or sbatch's own.
_RENAMED: Final = {"time": "timeout_min", "mem_gb": "mem_gb"}
_SBATCH: Final = ("partition", "account", "qos", "constraint", "exclude", "comment", "reservation")
OPTIONS: Final = ("cluster", *_RENAMED, *_SBATCH)


@dataclass
class _Job:
    """A job, how far its events were read, and how often SLURM did not name it."""

    handle: Any
    read: dict[Path, int] = field(default_factory=dict)
    misses: int = 0
    cancelled: bool = False


class SlurmExecutor:
    """Run each piece of work as a job; SLURM decides how many run at a time."""

    def __init__(self, folder: Path, options: Mapping[str, str] | None = None) -> None:
        """Check the options.

        Args:
            folder: A folder of this executor alone, which all machines share.
            options: `time` in minutes, `mem_gb`, and sbatch's partition, account, qos, constraint,
                exclude, comment and reservation. `cluster` is "slurm", or "local" for subprocesses.

        Raises:
            UsageError: submitit is not installed, there is no SLURM, or an option is unknown.
        """
        submitit = _import_submitit()
        given = dict(options or {})
        for name in given:
            if name not in OPTIONS:
                raise UsageError(f"--on slurm:{name}=...: {did_you_mean(name, OPTIONS)}")
        self._cluster = given.pop("cluster", "slurm")
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._submitit = submitit.AutoExecutor(
                folder=folder / "submitit",
                cluster=self._cluster,
                **({"slurm_max_num_timeout": _REQUEUES} if self._cluster == "slurm" else {}),
            )
            self._submitit.update_parameters(**_parameters(given, self._cluster))
        except Exception as error:  # submitit raises a dozen kinds
            raise UsageError(f"--on slurm: can't be used: {first_line(error)}") from error
        self._jobs: dict[str, _Job] = {}
        self._submitted = 0
        self._keeps_logs = False
        self._asked = 0.0

    def other_hosts(self) -> bool:
        """Return whether work may run on other machines than the driver's."""
        return self._cluster == "slurm"

    def submit(self, work: Work) -> str:
        resources = work.resources
        if resources.gpus % 1:
            raise UsageError(
                f"--gpus-per-run {resources.gpus:g}: SLURM gives a job whole GPUs only"
            )
        self._submitted += 1
        place = self._folder / f"{self._submitted:05d}"
        place.mkdir()
        (place / "work.pickle").write_bytes(pickle.dumps(work))
        parameters: dict[str, Any] = {"name": "ablation", "cpus_per_task": resources.cpus}
        if resources.gpus:
            parameters["gpus_per_node"] = int(resources.gpus)
        self._submitit.update_parameters(**parameters)
        handle = self._submitit.submit(JobCall(str(place)))
        self._jobs[work.id] = _Job(handle, {place / "events": 0})
        return work.id

    def events(self) -> list[Event]:
        deadline = time.monotonic() + WAIT_S
        while not (news := self._read()) and time.monotonic() < deadline:
            time.sleep(WAIT_S / 5)
        if time.monotonic() - self._asked >= (POLL_S if self._cluster == "slurm" else WAIT_S):
            self._asked = time.monotonic()
            news += self._lost()
        return news

    def cancel(self, work: str) -> None:
        if (job := self._jobs.get(work)) is not None:
            job.cancelled = True
            if self._cluster == "slurm":
                job.handle.cancel(check=False)
            else:
                _kill_subprocesses(int(job.handle.job_id))

    def close(self) -> None:
        if not self._jobs and not self._keeps_logs:
            shutil.rmtree(self._folder, ignore_errors=True)
        for work in self._jobs:
            self.cancel(work)
        deadline = time.monotonic() + _GRACE_S
        while self._jobs and time.monotonic() < deadline:
            living = self._living()
            if living is not None and not living & {
                str(job.handle.job_id) for job in self._jobs.values()
            }:
                return
            time.sleep(WAIT_S)

    def _read(self) -> list[Event]:
        """Return the events that jobs have written since the last call."""
        news: list[Event] = []
        for work, job in list(self._jobs.items()):
            for file, position in job.read.items():
                lines, job.read[file] = _new_lines(file, position)
                news += [event for line in lines if (event := _event(line)) is not None]
            if any(event.work == work and event.kind in ("ended", "failed") for event in news):
                del self._jobs[work]
        return news

    def _lost(self) -> list[Event]:
        """Return the jobs that SLURM has ended without their own word."""
        living = self._living()
        if living is None:
            return []
        news = self._read()
        for work, job in list(self._jobs.items()):
            job.misses = 0 if str(job.handle.job_id) in living else job.misses + 1
            if job.misses >= _MISSES:
                del self._jobs[work]
                self._keeps_logs = True
                how = "cancelled" if job.cancelled else "ended without a word"
                news.append(Event(work, "lost", f"job {job.handle.job_id} {how}"))
        return news

    def _living(self) -> set[str] | None:
        """Return the ids of the jobs that wait or run; None if that can't be told now."""
        if self._cluster != "slurm":
            return {str(job.handle.job_id) for job in self._jobs.values() if not job.handle.done()}
        asked = subprocess.run(
            ["squeue", "--me", "--noheader", "--format=%i"], capture_output=True, text=True
        )
        return set(asked.stdout.split()) if asked.returncode == 0 else None


def _kill_subprocesses(pid: int) -> None:
    """Kill a job of the cluster "local", as SLURM does in the end.

    submitit interrupts it, which it does not hear if the driver was started in the background.
    """
    with contextlib.suppress(psutil.NoSuchProcess):
        controller = psutil.Process(pid)
        for process in (controller, *controller.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


class JobCall:
    """Call a piece of work in a job; submitit pickles this, and requeues it by `checkpoint`."""

    def __init__(self, place: str) -> None:
        """Take the folder that holds the work and gets its events."""
        self.place = place

    def __call__(self) -> None:
        work: Work = pickle.loads((Path(self.place) / "work.pickle").read_bytes())
        with (Path(self.place) / "events").open("ab", buffering=0) as file:
            file.write(b"\n")  # behind what a killed attempt was writing

            def send(event: Event) -> None:
                file.write(base64.b64encode(pickle.dumps(event)) + b"\n")

            # submitit's handlers requeue the job; SIGTERM alone comes before SIGKILL.
            run_work(work, send, interruptible=False)

    def checkpoint(self) -> Any:
        """Return what is requeued: the same call, which goes on from the run's checkpoints."""
        return _import_submitit().helpers.DelayedSubmission(self)


def _event(line: bytes) -> Event | None:
    """Return the event of a line; None for the torn line of a killed job."""
    try:
        event: Event = pickle.loads(base64.b64decode(line, validate=True))
    except Exception:  # what is torn raises any kind
        return None
    return event


def _new_lines(file: Path, position: int) -> tuple[list[bytes], int]:
    """Return the whole lines of a file behind `position`, and where they end."""
    try:
        with file.open("rb") as opened:
            opened.seek(position)
            content = opened.read()
    except OSError:
        return [], position
    whole, newline, _ = content.rpartition(b"\n")
    return whole.split(b"\n") if newline else [], position + len(whole) + len(newline)


def _parameters(given: Mapping[str, str], cluster: str) -> dict[str, Any]:
    """Return the options as submitit takes them; without SLURM those of sbatch are left out."""
    parameters: dict[str, Any] = {"timeout_min": 24 * 60}
    for name, value in given.items():
        if name in _RENAMED:
            parameters[_RENAMED[name]] = float(value) if name == "mem_gb" else int(value)
        elif cluster == "slurm":
            parameters[f"slurm_{name}"] = value
    return parameters


def _import_submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise UsageError(
            "--on slurm: submitit is not installed; run: pip install 'ablation-suite[slurm]'"
        ) from error
    return submitit
