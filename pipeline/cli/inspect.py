"""Look into a dataset in the browser: what was kept, what was dropped, and what if.

Serves tables and videos of OUTPUT to everybody who reaches the address; the default is this machine
alone. End with Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.platform.command import DONE, Commands, add_command


def add(commands: Commands) -> None:
    """Register the command."""
    parser = add_command(commands, "inspect", __doc__, _inspect)
    parser.add_argument(
        "output", metavar="OUTPUT", type=_place,
        help="finished or running; or the URL of a pushed one: s3://BUCKET/FOLDER, gs://..., az://...",
    )  # fmt: skip
    parser.add_argument("--against", metavar="OTHER", type=_place, help="another OUTPUT to compare with")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; default: %(default)s")
    parser.add_argument("--port", type=int, default=8050, help="default: %(default)s")


def _place(text: str) -> Path | str:
    from pipeline.platform.storage import is_url

    return text if is_url(text) else Path(text).resolve()


def _inspect(parsed: argparse.Namespace) -> int:
    import uvicorn

    from pipeline.dataset.bucket_copy import dataset_state
    from pipeline.report.inspector_http import Server
    from pipeline.report.status import read_run

    for output in (parsed.output, parsed.against):
        if isinstance(output, str):
            dataset_state(output)
        elif output is not None:
            read_run(output)
    server = Server(parsed.output, parsed.against)
    print(f"http://{parsed.host}:{parsed.port}  (end with Ctrl-C)", file=sys.stderr, flush=True)
    uvicorn.run(server.app(parsed.host), host=parsed.host, port=parsed.port, log_level="warning")
    return DONE
