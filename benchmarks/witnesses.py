"""Those who see what a disturbed run does: the chat server that it pays, and a reader of its tables."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow.parquet as pq

from models.files import parquet_files
from models.language import request_key
from pipeline.dataset.manifest import MANIFEST, DatasetError, parse_manifest
from pipeline.dataset.reading import open_dataset
from pipeline.dataset.schema import TABLES
from pipeline.platform.memo import Memo

ANSWER = {"caption": "A person moves coloured shapes over a table.", "title": "How to make soup?"}

LOOK_EVERY_S = 0.01
ROWS_EVERY = 5
"""All rows are read at every fifth look: reading them takes longer than listing."""

Listing = tuple[str, ...]
Version = tuple[Listing, ...]
"""File names of each of the six tables."""


class ChatServer(ThreadingHTTPServer):
    """Chat server that gives every question the same answer and notes what it is asked again; a context.

    Attributes:
        answered: memo keys of the questions whose answer went out whole.
        paid_twice: those that came again although the memo had their answer.
        in_flight: those that came again because a kill took their answer away.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Chat)
        self._noting = threading.Lock()
        self.begin(None)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def settings(self) -> list[str]:
        """Settings of a run that asks this server."""
        url = f"http://127.0.0.1:{self.server_port}/v1"
        return [
            f"{kind}.{key}" for kind in ("language", "vision") for key in (f"base_url={url}", "model=m")
        ]

    def begin(self, memo: Path | None) -> None:
        """Forget what was asked; questions that come again are looked up in this memo, if there is one."""
        self._memo = memo
        self.answered: set[str] = set()
        self.paid_twice: set[str] = set()
        self.in_flight: set[str] = set()

    def note(self, key: str) -> None:
        """Look whether a question was answered, and whether its answer is known."""
        with self._noting:
            if self._memo is None or key not in self.answered:
                return
            memo = Memo(self._memo)
            try:
                (self.in_flight if memo.get(key) is None else self.paid_twice).add(key)
            finally:
                memo.close()


class _Chat(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, ChatServer)
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = request_key(request)
        server.note(key)
        schema = request["response_format"]["json_schema"]["schema"]
        text = json.dumps({name: ANSWER.get(name, "soup") for name in schema["properties"]})
        message = {"role": "assistant", "content": text}
        body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m",
                "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}}  # fmt: skip
        # A model takes time; most kills come while a question waits.
        time.sleep(0.1)
        with contextlib.suppress(ConnectionError):
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())
            self.wfile.flush()
            server.answered.add(key)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@dataclass
class Reader:
    """Reader that looks at a dataset all the time while a run works on it; a context.

    Attributes:
        listings: listings of one table, with how often each was seen.
        versions: versions as the manifest showed them.
        rows: numbers of rows of the six tables, read by the manifest.
    """

    output: Path
    listings: Counter[tuple[str, Listing]] = field(default_factory=Counter)
    versions: Counter[Version] = field(default_factory=Counter)
    rows: Counter[tuple[int, ...]] = field(default_factory=Counter)
    _end: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Reader:
        self._thread = threading.Thread(target=self._look_on)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def total(self) -> int:
        """Return the number of readings."""
        return self.listings.total() + self.versions.total() + self.rows.total()

    def _look_on(self) -> None:
        for number in itertools.count():
            if self._end.wait(LOOK_EVERY_S):
                return
            for name in TABLES:
                with contextlib.suppress(OSError):
                    self.listings[name, names_in(self.output / name)] += 1
            with contextlib.suppress(OSError):
                self.versions[version_of(self.output)] += 1
            if number % ROWS_EVERY == 0 and (self.output / MANIFEST).exists():
                # A version that is replaced in between is an error, which the module promises.
                with contextlib.suppress(DatasetError, OSError):
                    opened = open_dataset(self.output)
                    self.rows[tuple(opened.table(name).num_rows for name in TABLES)] += 1

    def mixes(self, whole: Sequence[tuple[Version, tuple[int, ...]]]) -> int:
        """Count the readings that belong to none of these versions; see :func:`whole_of`."""
        right = {pair for version, _ in whole for pair in zip(TABLES, version, strict=True)}
        versions, rows = {version for version, _ in whole}, {rows for _, rows in whole}
        return (
            sum(number for seen, number in self.listings.items() if seen not in right)
            + sum(number for seen, number in self.versions.items() if seen not in versions)
            + sum(number for counts, number in self.rows.items() if counts not in rows)
        )


def version_of(output: Path) -> Version:
    """Return the file names of the six tables, by the manifest."""
    manifest = parse_manifest((output / MANIFEST).read_bytes(), str(output))
    return tuple(tuple(sorted(Path(file.path).name for file in manifest.tables[name])) for name in TABLES)


def whole_of(output: Path) -> tuple[Version, tuple[int, ...]]:
    """Return the file names and the numbers of rows of a dataset that nothing works on."""
    return version_of(output), tuple(len(rows(output, name)) for name in TABLES)


def rows(output: Path, table: str) -> list[str]:
    """Return the rows of a table, each as text."""
    return [
        json.dumps(row, sort_keys=True, default=str)
        for path in parquet_files(output / table)
        for row in pq.read_table(path).to_pylist()
    ]


def table_bytes(output: Path) -> dict[str, bytes]:
    """Return the bytes of all files of the six tables, by table and name."""
    return {
        f"{name}/{path.name}": path.read_bytes()
        for name in TABLES
        for path in sorted((output / name).glob("*"))
    }


def rows_lost(expected: Path, found: Path) -> int:
    """Count the rows of one dataset's tables that another one lacks."""
    return sum((Counter(rows(expected, name)) - Counter(rows(found, name))).total() for name in TABLES)


def names_in(folder: Path) -> Listing:
    """Return the names in a folder."""
    return tuple(sorted(path.name for path in folder.iterdir()))
