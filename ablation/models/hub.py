"""Push an exported model, its card and a report to a repository on the Hugging Face Hub.

The token is that of huggingface_hub (`hf auth login`, or $HF_TOKEN), and no message shows it.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ablation.core.errors import RunError, UsageError, first_line

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

CARD: Final = "README.md"
#: The folder of the report in the repository.
REPORT_FOLDER: Final = "report"
#: One of these makes a folder an exported model or an ensemble.
_MODEL_FILES: Final = ("modules.json", "ensemble.json")
_REPO: Final = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_TOKEN: Final = re.compile(r"hf_\w+", re.ASCII)
_UNAUTHORISED: Final = 401
_FORBIDDEN: Final = 403


@dataclass(frozen=True)
class HubFile:
    """A file to push: its path in the repository, and its content, or the file that holds it."""

    path: str
    content: Path | bytes

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


def check_repo(repo: str) -> None:
    """Raise UsageError unless `repo` is OWNER/NAME as the Hub takes it."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # no __all__

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise UsageError(f"repository {repo!r}: {first_line(error)}") from error
    if not _REPO.fullmatch(repo):
        raise UsageError(f"repository {repo!r}: write OWNER/NAME")


def list_files(folder: Path, repo: str, report: Path | None = None) -> list[HubFile]:
    """List what a push of an exported model sends, in the order of the paths.

    Args:
        folder: The folder of a model or an ensemble. Hidden files are left out.
        repo: The repository, which the card then names where it said PATH.
        report: The folder of a report.

    Raises:
        UsageError: The folder is no exported model, or has no card.
    """
    if not any((folder / name).is_file() for name in _MODEL_FILES):
        raise UsageError(f"{folder}: not a model that `ablation run --export` wrote")
    if not (folder / CARD).is_file():
        raise UsageError(f"{folder}: it has no card ({CARD}); export the model again")
    files = {path.as_posix(): folder / path for path in _visible(folder)}
    listed = [HubFile(path, file) for path, file in files.items() if path != CARD]
    listed.append(HubFile(CARD, card_of_repo((folder / CARD).read_text("utf-8"), repo).encode()))
    if report is not None:
        listed += [
            HubFile(f"{REPORT_FOLDER}/{path.as_posix()}", report / path)
            for path in _visible(report)
        ]
    return sorted(listed, key=lambda file: file.path)


def card_of_repo(card: str, repo: str) -> str:
    """Return a card whose examples load the model from a repository instead of a folder."""
    downloaded = f'Path(snapshot_download("{repo}"))'
    if 'Path("PATH")' in card:  # an ensemble's members are folders, which have to be downloaded
        line = "from sentence_transformers import SentenceTransformer"
        card = card.replace(line, f"from huggingface_hub import snapshot_download\n{line}", 1)
    card = card.replace('Path("PATH")', downloaded).replace('"PATH"', f'"{repo}"')
    return card.replace("ablation predict PATH", "ablation predict FOLDER")


def push(repo: str, files: Sequence[HubFile], message: str, *, public: bool = False) -> str:
    """Create the repository if there is none, and add the files in one commit.

    Args:
        repo: OWNER/NAME.
        files: What `list_files` returned.
        message: The commit's message.
        public: Make a new repository public; one that exists stays as it is.

    Returns:
        The repository's address.

    Raises:
        UsageError: Nobody is signed in, or the token may not write there.
        RunError: The Hub can't be reached or refuses the files.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    if get_token() is None:
        raise UsageError(f"{api.endpoint}: not signed in; run `hf auth login`, or set HF_TOKEN")
    operations = [
        CommitOperationAdd(
            file.path, file.content if isinstance(file.content, bytes) else str(file.content)
        )
        for file in files
    ]
    try:
        api.create_repo(repo, private=not public, exist_ok=True)
        api.create_commit(repo, operations, commit_message=message)
    except HfHubHTTPError as error:
        raise _refusal(str(api.endpoint), repo, error) from None
    except Exception as error:  # the library's clients raise a dozen types of several packages
        cause = error.__cause__ or error
        if isinstance(cause, HfHubHTTPError):
            raise _refusal(str(api.endpoint), repo, cause) from None
        if isinstance(error, ValueError):  # such as for the card's metadata
            reason = redact_token(" ".join(str(error).split()))
            raise RunError(f"{api.endpoint}: refuses what was pushed to {repo}: {reason}") from None
        reason = redact_token(f"{type(cause).__name__}: {first_line(cause)}")
        raise RunError(
            f"{api.endpoint}: can't be reached, nothing was committed to {repo}: {reason}"
        ) from None
    return f"{api.endpoint}/{repo}"


def redact_token(text: str) -> str:
    """Return `text` without the token that is in use, and without anything that looks like one."""
    from huggingface_hub import get_token

    token = get_token()
    return _TOKEN.sub("hf_***", text.replace(token, "***") if token else text)


def _refusal(endpoint: str, repo: str, error: "HfHubHTTPError") -> UsageError | RunError:
    status = error.response.status_code
    if status == _UNAUTHORISED:
        return UsageError(
            f"{endpoint}: the token is not accepted; run `hf auth login`, or set HF_TOKEN"
        )
    if status == _FORBIDDEN:
        return UsageError(f"{endpoint}: the token may not write to {repo}; it needs write access")
    reason = redact_token(error.server_message or f"status {status}")
    return RunError(f"{endpoint}: refuses what was pushed to {repo}: {reason}")


def _visible(folder: Path) -> list[Path]:
    """Return the files below a folder, relative to it, without hidden ones and links to others."""
    found = (file.relative_to(folder) for file in sorted(folder.rglob("*")) if file.is_file())
    return [
        path
        for path in found
        if not any(part.startswith(".") for part in path.parts) and not (folder / path).is_symlink()
    ]
