"""``run.json``: what was asked of a run, how it ended, and what its tables were made from."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from pydantic_core import to_json

from models.errors import ReportedError
from models.files import json_digest, tree_digest, write_whole
from models.redaction import Redactor
from pipeline import __version__
from pipeline.curation.chain import KEY, build_stages
from pipeline.curation.config import Config
from pipeline.curation.ingest import Source
from pipeline.curation.selection import Selection
from pipeline.dataset.manifest import MANIFEST, DatasetError, parse_manifest
from pipeline.dataset.schema import SCHEMA_VERSION
from pipeline.platform.config import Loaded
from pipeline.platform.packages import ROOT
from pipeline.platform.storage import SECRETS
from stages.base import Stage

RUN_FILE = "run.json"
MADE_FROM = "made_from"
"""Key in ``run.json`` of a version that the same command would make again; see :func:`made_from`."""
MAKERS = ("models", "stages", "pipeline/curation", "pipeline/dataset", "pipeline/report")
"""Folders of the program that decide about the content of a version."""
ENGINE_ONLY = frozenset(
    {
        "runner",
        "ray_address",
        "video_deadline_s",
        "transient_retries",
        "pools",
        "retry_crashed",
        "cache_bytes",
    }
)
"""Settings of ``run`` that change how a version is made, not what is in it."""


class RunFile:
    """File that tells what was asked of a run and how it ended.

    ``run.json`` of OUTPUT belongs to the version of the tables that the run made. While a run is at work,
    and after one that ended without a version, the same is in the scratch folder. A context: leaving it by
    an error that ends a run early is written down too.

    Attributes:
        planned: videos of the run; ``done``: those that are finished.
    """

    def __init__(self, path: Path, given: str, loaded: Loaded[Config], selection: Selection) -> None:
        self._path = path
        self.planned = self.done = 0
        self.redact = Redactor([KEY, *SECRETS, *_key_variables(loaded.config)])
        asked = {
            "videoauteur": __version__,
            "schema_version": SCHEMA_VERSION,
            "input": given,
            "selection": selection.facts(),
            "machine": f"{platform.machine()}, {os.cpu_count()} processors",
            "config": loaded.config.model_dump(mode="json"),
            "config_origins": dict(loaded.origins),
        }
        self.asked: dict[str, Any] = self.redact.tree(asked)

    def __enter__(self) -> Self:
        self.finish(self._path, "running")
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if not isinstance(error, KeyboardInterrupt | ReportedError | OSError):
            return
        with suppress(OSError):
            # On a full disk the old one, which says that the run is at work, makes room for this one.
            self.remove()
            self.finish(self._path, "interrupted", videos_done=self.done, videos_planned=self.planned)

    def finish(self, path: Path, status: str, **more: Any) -> None:
        """Write a run file, whole or not at all."""
        content = self.redact.tree({"status": status, **self.asked, **more})
        write_whole(path, json.dumps(content, indent=1) + "\n")

    def remove(self) -> None:
        """Remove the state in the scratch folder."""
        self._path.unlink(missing_ok=True)


def _key_variables(config: Config) -> Iterator[str]:
    """Yield the names of the environment variables that hold keys."""
    for section in (config.language, config.vision):
        yield section.api_key_env
        yield from (other.api_key_env for other in section.others if other.api_key_env)


def made_from(sources: Iterable[Source], root: str, config: Config, memo: Path | str | None) -> str:
    """Return a digest of all that the content of a version depends on.

    Args:
        sources: as :func:`pipeline.curation.ingest.survey` found them: names and states, no content.
        root: URI of INPUT's folder.
        memo: None for the one in OUTPUT.
    """
    settings = config.model_dump(mode="json")
    settings["run"] = {name: value for name, value in settings["run"].items() if name not in ENGINE_ONLY}
    found = hashlib.sha256()
    stages = build_stages(config)
    beside = [stage for stage in stages if type(stage).also_reads is not Stage.also_reads]
    for source in sources:
        found.update(f"{source.uri}\n{source.identity}\n{source.problem or ''}\n".encode())
        # Files beside a video need not be among the sources.
        found.update(to_json([stage.also_reads(source.video()) for stage in beside]))
    return json_digest(
        {
            "files": found.hexdigest(),
            "input_root": root,
            "config": settings,
            "stages": [stage.signature for stage in stages],
            "memo": str(memo.absolute()) if isinstance(memo, Path) else memo,
            "program": program_digest(),
        }
    )


def program_digest() -> str:
    """Return a digest of the program's files that decide about the content of a version."""
    return tree_digest(ROOT, MAKERS, (".py", ".j2", ".txt", ".json"))


def current_summary(output: Path, digest: str) -> dict[str, Any] | None:
    """Return the summary of OUTPUT's current version if it was made from what ``digest`` stands for.

    None as well where a file of the version is missing or has another size.
    """
    try:
        run: dict[str, Any] = json.loads((output / RUN_FILE).read_bytes())
        if run.get(MADE_FROM) != digest:
            return None
        manifest = parse_manifest((output / MANIFEST).read_bytes(), str(output))
        whole = all((output / file.path).stat().st_size == file.bytes for file in manifest.all_files())
    except (OSError, ValueError, DatasetError):
        return None
    return run if whole else None
