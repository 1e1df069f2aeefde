"""Choose an executor by the words of `--on`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, get_args

from ablation.core.errors import UsageError
from ablation.core.suggest import did_you_mean
from ablation.executors.protocol import Executor, Resources

Engine = Literal["local", "ray", "slurm"]
#: As many processes side by side as are fastest, which `ablation.runs.scaling` measures.
AUTO_PLACE: Final = "local:auto"
#: Processes side by side on one machine.
_MAX_PROCESSES: Final = 256


@dataclass(frozen=True)
class Placement:
    """The place that `--on` names.

    Attributes:
        engine: "local" is this process itself, or `processes` others side by side.
        processes: The number of local processes; 0 for this one.
        address: Ray's address; empty for its own choice.
        options: SLURM's options.
    """

    engine: Engine = "local"
    processes: int = 0
    address: str = ""
    options: dict[str, str] = field(default_factory=dict)

    @property
    def is_here(self) -> bool:
        """Return whether this process itself trains."""
        return self.engine == "local" and not self.processes


def parse_on(text: str) -> Placement:
    """Read "local", "local:4", "ray", "ray:ADDRESS", "slurm" or "slurm:NAME=VALUE,...".

    Raises:
        UsageError: It is none of these.
    """
    name, colon, rest = text.strip().partition(":")
    if name not in get_args(Engine):
        raise UsageError(f"--on {text}: {did_you_mean(name, get_args(Engine))}")
    if colon and not rest:
        raise UsageError(f"--on {text}: nothing follows the colon; leave it out")
    if name == "ray":
        return Placement("ray", address=rest)
    if name == "slurm":
        return Placement("slurm", options=_options(text, rest))
    if not rest:
        return Placement()
    if text.strip() == AUTO_PLACE:
        raise UsageError(f"--on {text}: for `ablation run` and `plan`; give a number, as local:2")
    if not re.fullmatch(r"[0-9]{1,4}", rest) or not 1 <= int(rest) <= _MAX_PROCESSES:
        raise UsageError(
            f"--on {text}: give a number of processes from 1 to {_MAX_PROCESSES}, such as local:2"
        )
    return Placement("local", processes=int(rest))


def open_executor(
    place: Placement, resources: Resources, folder: Path, preload: str, gpus: Sequence[str] = ()
) -> tuple[Executor, bool]:
    """Start an executor, and return it with whether it may use other machines than this.

    Args:
        place: The place, which is not this process itself.
        resources: Resources of each piece of work.
        folder: A folder of this executor alone, shared by all machines of a SLURM cluster.
        preload: The module of the work's function.
        gpus: This machine's cards, for local processes.

    Raises:
        UsageError: The engine is not installed or can't be reached, or has not the resources.
    """
    if place.engine == "ray":
        from ablation.executors.ray import RayExecutor

        cluster = RayExecutor(place.address, _packages(preload))
        try:
            cluster.refuse_oversized(resources)
        except UsageError:
            cluster.close()
            raise
        return cluster, cluster.other_hosts()
    if place.engine == "slurm":
        from ablation.executors.slurm import SlurmExecutor

        jobs = SlurmExecutor(folder, place.options)
        return jobs, jobs.other_hosts()
    from ablation.executors.local import LocalExecutor

    return LocalExecutor(place.processes, gpus, preload), False


def _packages(module: str) -> tuple[Path, ...]:
    """Return the folders of this package and of the one that `module` is in."""
    from importlib.util import find_spec

    packages = dict.fromkeys(name.partition(".")[0] for name in (__name__, module))
    specs = [find_spec(name) for name in packages]
    found = [spec.submodule_search_locations or () for spec in specs if spec is not None]
    return tuple(Path(location) for locations in found for location in locations)


def _options(text: str, rest: str) -> dict[str, str]:
    options = {}
    for part in filter(None, rest.split(",")):
        name, equals, value = part.partition("=")
        if not equals or not value:
            raise UsageError(
                f"--on {text}: give options as NAME=VALUE, such as slurm:partition=gpu"
            )
        options[name.strip()] = value.strip()
    return options
