"""Fetches models from the Hugging Face hub, or from a mirror that HF_ENDPOINT names.

The hub tells each file's size and, of large ones, the SHA-256 before anything is fetched. That the
hub cannot be reached is known after one try: a person waits. A file that was fetched whole is not
fetched again after something went wrong with the next; one that breaks off is gone on with, as far
as huggingface_hub can.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .model_names import Model, Progress, Report
from .model_store import sha256_of

__all__ = ["Unfetched", "fetch"]

_SHA256 = re.compile(r"[0-9a-f]{64}")
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


class Unfetched(Exception):
    """A model was not fetched.

    Attributes:
        why: In a few words.
        todo: What has to be done before it is tried again; empty: nothing.
        absent: Whether the hub has no such model.
    """

    def __init__(self, why: str, todo: str = "", absent: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.todo = todo
        self.absent = absent


@dataclass(frozen=True)
class _File:
    path: str
    revision: str
    size: int | None
    sha256: str


def fetch(model: Model, folder: Path, report: Report) -> Path:
    """Fetch a model into `folder`, which nobody else uses, and return the one with its files.

    Raises:
        Unfetched: It cannot be fetched; what is there of it is of use the next time.
    """
    with _explained(model):
        return _fetch(model, folder, report)


def _fetch(model: Model, folder: Path, report: Report) -> Path:
    from huggingface_hub import hf_hub_download

    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
    what = f"Fetching the {model.noun}"
    report(Progress(what, 0, None))
    files = _look_up(model, endpoint)
    sizes = [file.size for file in files if file.size is not None]
    total = sum(sizes) if len(sizes) == len(files) else None

    kept = folder / "hub"
    _remove_remains(kept)
    missing = sum(file.size or 0 for file in files if not (kept / file.path).is_file())
    if missing > shutil.disk_usage(folder).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    done = 0
    for file in files:
        path = Path(
            hf_hub_download(
                model.repository,
                file.path,
                revision=file.revision,
                local_dir=kept,
                endpoint=endpoint,
                tqdm_class=_reporter(what, done, total, report),
            )
        )
        done += path.stat().st_size
        report(Progress(what, done, total))
        if file.sha256 and sha256_of(path, f"Checking the {model.noun}", report) != file.sha256:
            shutil.rmtree(kept, ignore_errors=True)
            raise Unfetched("what the hub sent is not what it should be")

    ready = folder / "ready"
    shutil.rmtree(ready, ignore_errors=True)
    ready.mkdir()
    for file in files:
        os.replace(kept / file.path, ready / Path(file.path).name)
    return ready


def _look_up(model: Model, endpoint: str | None) -> list[_File]:
    """Ask the hub for what the model's files are."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    files: list[_File] = []
    for path in (*model.files, *model.optional):
        # All are of the same state of the repository.
        revision = files[0].revision if files else None
        url = hf_hub_url(model.repository, path, revision=revision, endpoint=endpoint)
        try:
            told = get_hf_file_metadata(url, endpoint=endpoint)
        except EntryNotFoundError:
            if path in model.files:
                raise
            continue
        if told.commit_hash is None:
            raise Unfetched("what answers is no hub", "check HF_ENDPOINT")
        sha256 = told.etag if told.etag and _SHA256.fullmatch(told.etag) else ""
        if not files and model.sha256:
            sha256 = model.sha256
        files.append(_File(path, told.commit_hash, told.size, sha256))
    return files


def _remove_remains(kept: Path) -> None:
    """Remove halves of files that a process has left that was killed: nothing goes on with them."""
    if kept.is_dir():
        for path in kept.rglob("*.incomplete"):
            path.unlink(missing_ok=True)


def _reporter(what: str, done: int, total: int | None, report: Report) -> Any:
    """Return a class that huggingface_hub takes for a progress bar, and which shows nothing."""
    from tqdm.std import tqdm

    furthest = 0

    class Reporter(tqdm):  # type: ignore[misc,type-arg,unused-ignore]
        """One of the bars for a file: there may be one for its transfer and one for its writing."""

        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)
            super().__init__(*args, **{**options, "disable": True})
            self.reached = int(options.get("initial") or 0)

        def update(self, n: float | None = 1) -> None:
            nonlocal furthest
            self.reached += int(n or 0)
            furthest = max(furthest, self.reached)
            report(Progress(what, done + furthest, total))

    return Reporter


@contextmanager
def _explained(model: Model) -> Iterator[None]:
    """Turn whatever goes wrong into `Unfetched`, and keep huggingface_hub from printing it."""
    try:
        from huggingface_hub import errors
        from huggingface_hub.utils import logging as hub_logging
    except ImportError:
        raise Unfetched(
            "huggingface_hub is not installed", "pip install 'gptme-voice-plugin[local]'"
        ) from None
    verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity(logging.ERROR)
    repository = f"the hub has no {model.repository}"
    try:
        yield
    except Unfetched:
        raise
    except errors.OfflineModeIsEnabled:
        raise Unfetched("HF_HUB_OFFLINE is set", "unset it") from None
    except errors.GatedRepoError:
        why = f"the hub gives {model.repository} only to those who have accepted its terms"
        raise Unfetched(why, "accept them there and set HF_TOKEN") from None
    except errors.RepositoryNotFoundError:
        raise Unfetched(repository, absent=True) from None
    except errors.LocalEntryNotFoundError as error:
        raise Unfetched(_lost(error.__cause__ or error)) from None
    except errors.EntryNotFoundError:
        raise Unfetched(f"{repository} with the files of one", absent=True) from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status == 404:
            raise Unfetched(repository, absent=True) from None
        raise Unfetched(f"the hub answers with HTTP status {status}") from None
    except Exception as error:  # of whichever HTTP library huggingface_hub uses
        if isinstance(error, OSError) and error.errno in _FULL:
            raise Unfetched("the disk is full", "make room") from None
        if isinstance(error, OSError) and error.filename:
            why = f"{error.filename} cannot be written: {error.strerror}"
            raise Unfetched(why, "mend that") from None
        raise Unfetched(_lost(error)) from None
    finally:
        hub_logging.set_verbosity(verbosity)


def _lost(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    what = lines[0].strip() if lines else type(error).__name__
    return f"the way to the hub failed: {what[:200].rstrip('.')}"
