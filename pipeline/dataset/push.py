"""A dataset in a bucket: the tables, card, report and run file of the current version.

Shards are uploaded first, under names that hold a digest of their bytes, so that those which the bucket
has already are not sent again; the manifest comes last, in one put, and is the switch. Shards of the
version before are removed after it. What a reader can see in between: by the manifest, one version; by a
glob of a table (``s3://bucket/name/clips/*.parquet``), shards of both versions from the first upload to
the last removal. A push that dies is completed by the same command.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore, from_url

from pipeline.dataset.manifest import MANIFEST, DatasetError
from pipeline.dataset.reading import open_dataset
from pipeline.dataset.schema import TABLES


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """Result of a push: files sent, files that were there, and files removed."""

    sent: int
    there: int
    removed: int


def push(output: Path, url: str) -> Pushed:
    """Upload the current version of ``output``.

    Args:
        url: ``s3://``, ``gs://``, ``az://`` or ``file://``, of the folder that the dataset becomes.
        Credentials,
            endpoint and region come from the environment (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, ...)
            or from the machine's role.

    Raises:
        DatasetError: ``output`` has no manifest, or the store refuses.
    """
    dataset = open_dataset(output)
    if dataset.manifest is None:
        raise DatasetError(f"{output}: has no {MANIFEST}; curate it again with this release")
    try:
        store = from_url(url)
        return _push(store, dataset.folder, [file.path for file in dataset.manifest.all_files()])
    except (BaseError, ValueError, FileNotFoundError, PermissionError) as error:
        # Later lines hold whole answers of the server.
        raise DatasetError(f"{url}: {str(error).strip().partition(chr(10))[0]}") from error


def _push(store: ObjectStore, folder: Path, paths: list[str]) -> Pushed:
    there = {
        found["path"]: found["size"]
        for name in TABLES
        for chunk in obstore.list(store, name)
        for found in chunk
    }
    # Names of shards are of their content; card, report and run file have one name for ever.
    wanted = [path for path in paths if there.get(path) != (folder / path).stat().st_size]
    for path in [*wanted, MANIFEST]:
        obstore.put(store, path, folder / path)
    stale = sorted(there.keys() - set(paths))
    if stale:
        obstore.delete(store, stale)
    return Pushed(sent=len(wanted) + 1, there=len(paths) - len(wanted), removed=len(stale))
