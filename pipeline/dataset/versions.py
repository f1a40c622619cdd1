"""One switch for a whole dataset: its six tables, card, report and run file change together or not at all.

::

    OUTPUT/
      clips        -> _versions/current/clips            likewise the other tables, run.json, report.html,
      manifest.json -> _versions/current/manifest.json   README.md
      _versions/
        current    -> 3f9c2a71                           renaming this link is the switch
        3f9c2a71/clips/part-all-0b1c2d3e.parquet ...     the version
        lock                                             held by the run that works on OUTPUT

A version is built beside the current one; it is complete when its manifest is in it, which comes last. A
run that dies before the switch leaves the old version, after the switch the new one; :func:`recover`, at
the next start, puts missing links in place and removes what belongs to no version.

What a reader can see while a new version takes the place of an old one:

- by the manifest (:mod:`pipeline.dataset.reading`): one version. A reader that started before the switch
  and opens a file after it gets an error, never a row of the other version, since names hold digests;
- by a glob of one table (``OUTPUT/clips/*.parquet`` with pandas, DuckDB, ``datasets``): the listing is of
  one version. A file that is opened after the switch is missing if the new version changed it, and has
  the same bytes if not: an error, never a mix;
- by globs of two tables, one after the other: each table is of one version, but the switch may lie between
  them. ``_versions/current`` resolved once (``os.path.realpath``) gives a folder that never changes;
- an open file stays readable.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

from models.files import to_disk
from pipeline.dataset.manifest import MANIFEST, File, Manifest, describe_file
from pipeline.dataset.schema import SCHEMA_VERSION, TABLES
from pipeline.dataset.tables import Row, TableWriter

VERSIONS = "_versions"
CURRENT = "current"
LOCK = "lock"
OTHERS = ("run.json", "report.html", "README.md")
"""Files of a version beside its tables and its manifest."""
LINKS = (*TABLES, *OTHERS, MANIFEST)


class VersionWriter:
    """Builds the next version of a dataset.

    Give it the rows of all videos with :meth:`add`; after :meth:`write` the tables are in :attr:`folder`,
    where the caller adds what else belongs to the version (``OTHERS``); :meth:`commit` makes it the
    current one. Leaving the context without a commit removes it. Every method raises :class:`OSError`
    where the disk is full; the current version is untouched then.

    Args:
        output: the dataset.
        scratch: folder for temporary files.
        input_root: see :class:`pipeline.dataset.manifest.Manifest`.

    Attributes:
        folder: of the version that is being built.
    """

    def __init__(
        self, output: Path, *, scratch: Path, input_root: str, max_shard: int, max_row_group: int
    ) -> None:
        self._output = output
        self._input_root = input_root
        self.folder = output / VERSIONS / uuid.uuid4().hex[:8]
        self._writer = TableWriter(
            self.folder, spool=scratch, max_shard=max_shard, max_row_group=max_row_group
        )
        self._tables: dict[str, list[File]] = {}
        self._committed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.__exit__()
        if not self._committed:
            shutil.rmtree(self.folder, ignore_errors=True)

    def add(self, rows: Mapping[str, Sequence[Row]]) -> None:
        """Take rows of one video, by table; the videos come in any order."""
        self._writer.add(rows)

    def write(self) -> dict[str, int]:
        """Write the tables; returns the number of rows by table."""
        self._tables = self._writer.write()
        return {name: sum(file.rows or 0 for file in files) for name, files in self._tables.items()}

    def commit(self) -> None:
        """Make this the current version."""
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            input_root=self._input_root,
            tables=self._tables,
            files=[describe_file(self.folder, name) for name in OTHERS if (self.folder / name).is_file()],
        )
        (self.folder / MANIFEST).write_bytes(manifest.dump())
        _sync(self.folder / file.path for file in manifest.all_files())
        _sync([self.folder / MANIFEST, *(self.folder / name for name in TABLES), self.folder])
        versions = self._output / VERSIONS
        _link(versions / CURRENT, self.folder.name)
        self._committed = True
        _sync([versions])
        recover(self._output)


def recover(output: Path) -> None:
    """Finish or undo what a run left that was killed; nothing else may work on ``output`` meanwhile.

    Puts the links of the current version in place, and removes other versions, whole or begun. Tables of
    an earlier release, which are folders in ``output`` itself, become the current version; each is out of
    sight for a moment then.
    """
    versions = output / VERSIONS
    current = versions / CURRENT
    if current.is_dir() and not current.is_symlink():
        # A copy that followed the links made a folder of it.
        _adopt(versions, current)
    elif not current.exists() and any((output / name).exists() for name in TABLES):
        _adopt(versions, None)
    if current.exists():
        for name in LINKS:
            place, inside = output / name, current / name
            if place.exists() and not place.is_symlink() and not inside.exists():
                place.rename(inside)
            if inside.exists():
                _link(place, f"{VERSIONS}/{CURRENT}/{name}")
            else:
                place.unlink(missing_ok=True)
    kept = current.resolve().name if current.exists() else None
    for entry in versions.iterdir() if versions.is_dir() else ():
        if entry.name not in (CURRENT, LOCK, kept):
            _remove(entry)


def _adopt(versions: Path, folder: Path | None) -> None:
    """Make a folder the current version; an empty one if None."""
    name = uuid.uuid4().hex[:8]
    if folder is None:
        (versions / name).mkdir(parents=True)
    else:
        folder.rename(versions / name)
    _link(versions / CURRENT, name)


def _link(place: Path, target: str) -> None:
    """Make a link at ``place``, in one step where a link or a file was before."""
    if place.is_symlink() and place.readlink() == Path(target):
        return
    part = place.with_name(f"{place.name}.part")
    part.unlink(missing_ok=True)
    try:
        part.symlink_to(target)
    except OSError as error:
        raise OSError(
            error.errno, f"{error.strerror}: a dataset needs a file system with symbolic links", str(place)
        ) from error
    if place.is_dir() and not place.is_symlink():
        # A copy of the dataset that followed the links made a folder of it.
        shutil.rmtree(place)
    part.replace(place)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(paths: Iterable[Path]) -> None:
    """Wait until files or folders are on the disk."""
    for path in paths:
        to_disk(path)
