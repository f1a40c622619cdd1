"""A dataset in a bucket: the tables, card, report and run file of one version.

::

    s3://bucket/dataset/
      clips/part-...-0b1c2d3e.parquet   shards of all tables, under names that hold a digest of their bytes
      _versions/5d41402a/report.html    report, card and run file, likewise
      manifest.json                     the switch: what it lists is the current version
      report.html                       copies of the three, for people

Shards that the bucket has already are not sent again. The manifest comes last, in one conditional put that
fails if another version was published meanwhile. What the new manifest does not list is removed after it.
A reader sees one version by the manifest; by a glob of a table, shards of both from the first upload to the
last removal. A push that dies is completed by the same command.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from models.errors import StoreError
from pipeline.dataset.manifest import MANIFEST, DatasetError, Manifest
from pipeline.dataset.reading import open_dataset
from pipeline.dataset.schema import TABLES
from pipeline.dataset.versions import VERSIONS
from pipeline.platform.storage import Object, Store

THREADS = 8


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

    Raises:
        DatasetError: ``output`` has no manifest.
        StoreError: another version was published meanwhile.
        models.errors.ReportedError: the store refuses or does not answer.
    """
    store = Store(url)
    dataset = open_dataset(output)
    if dataset.manifest is None:
        raise DatasetError(f"{output}: has no {MANIFEST}; curate it again with this release")
    return publish(store, dataset.folder, dataset.manifest, seen=store.head(MANIFEST))


def publish(store: Store, folder: Path, manifest: Manifest, *, seen: Object | None) -> Pushed:
    """Make a version that lies in a local folder the current one of a bucket.

    Args:
        seen: the manifest that it takes the place of; None if there was none.

    Raises:
        StoreError: another version was published since ``seen``.
    """
    there = {found.key: found.bytes for name in (*TABLES, VERSIONS) for found in store.list(name)}
    placed = _placed(manifest)
    local = {file.path: folder / Path(file.path).name for file in placed.files}
    local |= {file.path: folder / file.path for files in placed.tables.values() for file in files}
    # Their names are digests of their contents; a part of an object is never visible.
    wanted = [path for path, file in local.items() if there.get(path) != file.stat().st_size]
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(lambda path: store.put(path, local[path]), wanted))
    text = placed.dump()
    switched = store.replace(MANIFEST, text, seen.etag) if seen else store.put_new(MANIFEST, text)
    if switched is None:
        raise StoreError(
            f"{store.url}: another run published a version meanwhile, which stays; give the same command "
            "again to take its place"
        )
    for file in manifest.files:
        store.put(file.path, folder / file.path)
    stale = sorted(there.keys() - local.keys())
    store.delete(stale)
    return Pushed(
        sent=len(wanted) + 1 + len(manifest.files), there=len(local) - len(wanted), removed=len(stale)
    )


def _placed(manifest: Manifest) -> Manifest:
    """Return a manifest whose other files stand in a folder of the version, so that they change with it."""
    version = _digest(file.sha256 for file in manifest.files)
    files = [replace(file, path=f"{VERSIONS}/{version}/{file.path}") for file in manifest.files]
    return replace(manifest, files=files)


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:8]
