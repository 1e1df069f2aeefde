"""Fetch the files of a data set from the Hugging Face Hub: `hub:org/name`, also `...@commit`.

Only files of rows and a `corpus.toml` are fetched; no code that comes with a data set is executed.
"""

from pathlib import Path
from typing import Final

from ablation.core.errors import UsageError, first_line
from ablation.data.formats import COMPRESSED, ENDINGS

#: The beginning of the name of a data set on the Hub.
PREFIX: Final = "hub:"
#: Larger data sets are refused: they are no corpora of labelled texts.
_LARGEST_BYTES: Final = 2 * 2**30
_FETCHED: Final = (
    "corpus.toml",
    *(f"*{end}{more}" for end in ENDINGS for more in ("", *COMPRESSED)),
)


def is_hub(source: str) -> bool:
    """Tell if a name is that of a data set on the Hub."""
    return source.startswith(PREFIX)


def fetch(name: str) -> tuple[Path, str]:
    """Fetch a data set's files into the Hub's cache, or find them there without a network.

    Args:
        name: Such as "hub:org/name" or "hub:org/name@commit".

    Returns:
        The folder, and the name with its commit, which always means the same files.

    Raises:
        UsageError: It can't be fetched, in one line.
    """
    repo, _, revision = name.removeprefix(PREFIX).partition("@")
    if repo.count("/") != 1 or not all(repo.split("/")):
        raise UsageError(f"data {name!r}: write {PREFIX}ORGANISATION/NAME")
    try:
        folder = _download(name, repo, revision or None)
    except UsageError:
        raise
    except Exception as error:  # the library and what it is built on raise a dozen types
        raise UsageError(
            f"data {name!r}: can't be fetched from the Hugging Face Hub ({first_line(error)});"
            " check the name and the network, or download it and give the folder"
        ) from error
    return folder, f"{PREFIX}{repo}@{folder.name}"


def _download(name: str, repo: str, revision: str | None) -> Path:
    """Return the folder of the files, from the library's cache if the Hub can't be asked."""
    # Imported here: it takes a while, and few corpora are on the Hub.
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_OFFLINE
    from huggingface_hub.errors import LocalEntryNotFoundError

    def snapshot(*, cached: bool) -> Path:
        return Path(
            snapshot_download(
                repo,
                repo_type="dataset",
                revision=revision,
                allow_patterns=list(_FETCHED),
                local_files_only=cached,
            )
        )

    if HF_HUB_OFFLINE:
        return snapshot(cached=True)
    try:
        _require_size(name, repo, revision)
    except UsageError:
        raise
    except Exception as error:
        try:
            return snapshot(cached=True)
        except LocalEntryNotFoundError:
            raise error from None
    return snapshot(cached=False)


def _require_size(name: str, repo: str, revision: str | None) -> None:
    """Raise UsageError for a data set that is too large, and the library's errors."""
    from fnmatch import fnmatch

    from huggingface_hub import HfApi

    info = HfApi().dataset_info(repo, revision=revision, files_metadata=True)
    size = sum(
        file.size or 0
        for file in info.siblings or ()
        if any(fnmatch(file.rfilename, pattern) for pattern in _FETCHED)
    )
    if size > _LARGEST_BYTES:
        raise UsageError(
            f"data {name!r}: its files have {size / 2**30:.1f} GiB, more than"
            f" {_LARGEST_BYTES / 2**30:.0f}; download what you need and give the folder"
        )
