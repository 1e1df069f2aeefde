"""The console script: what it prints, its exit codes, and that it ends as the signals say."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ablation.cli.main import main
from ablation.tracking import names
from ablation.tracking.store import open_store
from tests.commands import Command as Process

#: Carries out a command line: exit code, output, errors.
Command = Callable[..., tuple[object, str, str]]
SMOKE = ("--profile", "smoke", "--splits", "dev1", "--set", "optimisation.epochs=1")


def process(*arguments: str, cwd: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """The command as a user runs it, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "ablation", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.fixture
def ablation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Run a command in this process: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["ablation", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return run


def test_help_names_every_command_without_loading_the_heavy_libraries(tmp_path: Path) -> None:
    script = (
        "import sys; from typer.testing import CliRunner; from ablation.cli.main import app;"
        "print(CliRunner().invoke(app, ['--help']).output);"
        "heavy = {'torch', 'transformers', 'mlflow', 'pandas', 'numpy', 'matplotlib'};"
        "print('heavy:', heavy & set(sys.modules))"
    )
    output = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path
    ).stdout
    for command in ("run", "plan", "data", "report", "sweep"):
        assert re.search(rf"^.*\b{command}\b", output, re.MULTILINE)
    assert "heavy: set()" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data", "nowhere"], "nowhere: does not exist"),
        (
            ["run", "--variants", "emp", "--data", "{corpus}"],
            "unknown variant 'emp': did you mean 'epm'?",
        ),
        (["run", "--seeds", "a", "--data", "{corpus}"], "seeds 'a': give whole numbers"),
        (["run", "--seeds", "-1", "--data", "{corpus}"], "seeds '-1'"),
        (["run", "--splits", "dev3", "--data", "{corpus}"], "unknown split 'dev3'"),
        (
            ["run", "--profile", "dmo", "--data", "{corpus}"],
            "unknown profile 'dmo': did you mean 'demo'?",
        ),
        (["run", "--set", "loss.tau=-1", "--data", "{corpus}"], "loss.tau = -1"),
        (
            ["run", "--set", "optimisation.epochs=0", "--data", "{corpus}"],
            "optimisation.epochs = 0",
        ),
        (["run", "--set", "loss.tua=1", "--data", "{corpus}"], "did you mean 'loss.tau'?"),
        (
            ["run", "--fresh", "perhaps", "--data", "{corpus}"],
            "--fresh 'perhaps': this is a switch",
        ),
        (["run", "--report", "no", "--data", "{corpus}"], "--report 'no': this is a switch"),
        (["report", "--experiment", "nowhere"], "no experiment 'nowhere'"),
        (["report", "--pool", "some"], "some: there is no such file"),
        (["report", "--tracking-uri", "sqlite:///nowhere.db"], "nowhere.db: there is no such file"),
        (
            ["sweep", "--space", "tua", "--data", "{corpus}"],
            "unknown space 'tua': did you mean 'tau'?",
        ),
        (["sweep", "--sampler", "x", "--data", "{corpus}"], "unknown sampler 'x'"),
        (["report", "--group", "x"], "Invalid value for '--group'"),
        (
            ["run", "--tracking-uri", "nonsense://x", "--data", "{corpus}"],
            "tracking store nonsense://x",
        ),
        (["plan", "--encoder", "./nowhere", "--data", "{corpus}"], "the folder does not exist"),
        (["run", "--tua", "0.1"], "No such option"),
        (["pln"], "unknown command 'pln': did you mean 'plan'?"),
        (["zzz"], "unknown command 'zzz': known are run, plan"),
    ],
)
def test_wrong_arguments_give_a_clear_line_exit_code_2_and_no_traceback(
    arguments: Sequence[str],
    message: str,
    small_corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    store_uri: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store_uri)
    monkeypatch.setattr(
        sys, "argv", ["ablation", *[a.format(corpus=small_corpus) for a in arguments]]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "mlruns").exists()


def test_errors_are_lines_on_standard_error_without_a_traceback(tmp_path: Path) -> None:
    done = process("data", "nowhere", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("ablation: nowhere: does not exist; data is 'demo' or a folder with ")


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    assert "Traceback" in process("--debug", "data", "nowhere", cwd=tmp_path).stderr


def test_data_prints_table_2_and_the_histogram_of_figure_1(
    small_corpus: Path, ablation: Command
) -> None:
    code, out, _ = ablation("data", str(small_corpus))
    assert code == 0
    assert re.search(r"English \(en\) +│ +20 │ +1587 │ +6 │ +1396", out)
    assert "Labelled rows by intimacy" in out
    assert "differ from the paper's Table 2" in out


def test_plan_then_run_then_plan(
    small_corpus: Path, tmp_path: Path, store_uri: str, ablation: Command
) -> None:
    common = (
        "--data",
        str(small_corpus),
        *SMOKE,
        "--variants",
        "mse,ensemble",
        "--tracking-uri",
        store_uri,
    )
    _, before, _ = ablation("plan", *common)
    assert "2 to do, 0 reused" in before
    assert re.search(r"about \d+ minutes? and \d+\.\d GiB, measured", before)
    code, out, errors = ablation("run", *common)
    assert code == 0, errors
    assert "epoch 1/1, dev Pearson" in out
    assert re.search(r"MSE +│ -?\d+\.\d\d +│", out)
    assert "[68.66]" not in out, "the paper's figures are those of another corpus"
    assert f"mlflow ui --backend-store-uri {store_uri}" in out
    assert "Report: " in out
    assert "One seed: the spread between trainings is unknown" in out
    for file in ("report.pdf", "report.html", "tables/table3.tex", "figures/figure2.svg"):
        assert (tmp_path / "report-ablation" / file).stat().st_size > 0
    _, checked, errors = ablation("report", "--verify", "--tracking-uri", store_uri)
    assert re.search(r"\d+ numbers computed again, all as report-ablation has them", checked), (
        errors
    )
    assert "0 to do, 2 reused" in ablation("plan", *common)[1]


def test_one_thing_is_named_in_the_singular(
    small_corpus: Path, tmp_path: Path, store_uri: str, ablation: Command
) -> None:
    common = ("--data", str(small_corpus), *SMOKE, "--variants", "mse", "--tracking-uri", store_uri)
    printed = []
    for command in (
        ("plan", *common),
        ("run", *common),
        ("report", "--verify", "--tracking-uri", store_uri),
        ("bundle", "--tracking-uri", store_uri, "--out", "one.ablation.zip"),
        ("unbundle", "one.ablation.zip", "--experiment", "copy", "--tracking-uri", store_uri),
        ("doctor", "--tracking-uri", store_uri),
    ):
        code, out, errors = ablation(*command)
        assert code == 0, errors
        printed += [out, errors]
    html = (tmp_path / "report-ablation" / "report.html").read_text("utf-8")
    printed.append(re.sub(r"<(script|style|svg)\b.*?</\1>|<[^>]*>", " ", html, flags=re.DOTALL))
    # Neither 0.1 nor a verb.
    plural = r"(?<![\d.,/:×^-])1 (?!is|was|has|as)\w+(?<!s)s\b"
    assert [found.group() for text in printed for found in re.finditer(plural, text)] == []


def test_a_failing_run_makes_the_command_fail_and_is_listed(
    small_corpus: Path, store_uri: str, ablation: Command
) -> None:
    # A rate that no float32 weight survives: the loss stops being a number.
    broken = (
        "--set",
        "optimisation.lr_encoder=1e30,optimisation.lr_head=1e30,optimisation.warmup=0,optimisation.batch_size=8",
    )
    arguments = (
        "--data",
        str(small_corpus),
        *SMOKE,
        "--variants",
        "mse",
        "--tracking-uri",
        store_uri,
    )
    code, out, errors = ablation("run", *arguments, *broken, "--report", "false")
    assert code == 1
    assert "failed: mse dev1 seed 0: NotFiniteError: train/" in out
    assert "1 of 1 run failed" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_runs_as_killed_and_leaves_none_running(
    number: signal.Signals, small_corpus: Path, tmp_path: Path, store_uri: str
) -> None:
    arguments = (
        "--data",
        str(small_corpus),
        *SMOKE,
        "--set",
        "optimisation.epochs=100000",
        "--tracking-uri",
        store_uri,
    )
    process = Process(["run", *arguments], tmp_path)
    process.read_until("epoch 2/")
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    store = open_store(store_uri)
    experiments = [e.experiment_id for e in store.client.search_experiments()]
    runs = store.client.search_runs(experiments)
    assert {run.info.status for run in runs} == {"KILLED"}
    assert len(runs) == 2


def test_mlflow_run_makes_the_hierarchy_below_the_run_it_opens(
    small_corpus: Path, tmp_path: Path, store_uri: str
) -> None:
    project = Path(__file__).resolve().parents[2]
    parameters = {
        "data": small_corpus,
        "profile": "smoke",
        "variants": "mse,ensemble",
        "splits": "dev1",
        "report": "false",
    }
    launch = [sys.executable, "-m", "mlflow", "run", str(project), "--env-manager", "local", "-e"]
    command = [
        *launch,
        "ablation",
        *(part for name, value in parameters.items() for part in ("-P", f"{name}={value}")),
    ]
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": store_uri,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    store = open_store(store_uri)
    runs = store.client.search_runs(["0"])
    (suite,) = [run for run in runs if run.data.tags.get(names.KIND) == names.SUITE]
    assert suite.data.params["seeds"] == "0"
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == suite.info.run_id]
    assert sorted(run.info.run_name for run in children) == [
        "ensemble dev1 seed 0",
        "mse dev1 seed 0",
    ]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert json.loads(suite.data.tags[names.MANIFEST])
    # The report entry point reports on the same experiment, and logs to the suite's artifacts.
    command = [*launch, "report", "-P", f"out={tmp_path / 'report'}"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report" / "report.pdf").is_file()
    assert "report/report.html" in {
        f.path for f in store.client.list_artifacts(suite.info.run_id, "report")
    }


def test_mlflow_run_on_a_git_address_works_in_the_callers_folder(
    small_corpus: Path, tmp_path: Path, store_uri: str
) -> None:
    """MLflow starts the command in a temporary clone: relative paths and the report are not its."""
    project = Path(__file__).resolve().parents[2]
    repository, folder, clones = (tmp_path / name for name in ("project.git", "here", "clones"))
    for new in (repository, folder, clones):
        new.mkdir()
    # MLflow takes an address that exists as a path for a folder: git alone knows where this one is.
    address = "https://example.invalid/project.git"
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": store_uri,
        "PYTHONPATH": str(project),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TMPDIR": str(clones),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{repository}.insteadOf",
        "GIT_CONFIG_VALUE_0": address,
    }
    for file in ("MLproject", "python_env.yaml"):
        shutil.copy(project / file, repository)
    commit = ("-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "a project")
    for git in (("init", "-q", "-b", "main"), ("add", "."), commit):
        subprocess.run(["git", *git], cwd=repository, check=True)
    shutil.move(small_corpus, folder / "mine")
    parameters = {"data": "mine", "profile": "smoke", "variants": "mse", "splits": "dev1"}
    launch = [sys.executable, "-m", "mlflow", "run", address, "--env-manager", "local"]
    command = [*launch, *(p for item in parameters.items() for p in ("-P", "=".join(item)))]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert {file.name for file in folder.iterdir()} == {"mine", "report-Default"}
    assert (folder / "report-Default" / "report.html").is_file()


def test_on_a_terminal_a_live_table_shows_the_runs(
    small_corpus: Path, tmp_path: Path, store_uri: str
) -> None:
    arguments = (
        "--data",
        str(small_corpus),
        *SMOKE,
        "--variants",
        "mse",
        "--tracking-uri",
        store_uri,
        "--report",
        "false",
    )
    leader, follower = pty.openpty()
    environment = {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
    process = Process(["run", *arguments], tmp_path, environment, terminal=os.ttyname(follower))
    shown, deadline = os.read(leader, 65536), time.monotonic() + 120
    os.close(
        follower
    )  # not before the command has it open: a terminal that nobody has is at its end
    while time.monotonic() < deadline:
        try:
            part = os.read(leader, 65536)
        except OSError:  # the other end is closed: the command is done
            break
        shown += part
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode("utf-8", "replace"))
    for part in ("variant", "dev r", "1 of 1 run", "finished"):
        assert part in text


@pytest.mark.parametrize(("output", "code"), [("&-", 0), ("/dev/full", 1)])
def test_an_output_that_takes_nothing_is_told_in_one_line(
    output: str, code: int, tmp_path: Path
) -> None:
    line = f'exec "$0" -m ablation data demo >{output}'
    done = subprocess.run(
        ["sh", "-c", line, sys.executable], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    assert done.returncode == code
    told = ["ablation: standard output: can't be written: No space left on device; send it"]
    assert [line.rpartition(" elsewhere")[0] for line in done.stderr.splitlines()] == told[:code]
