"""``videoauteur inspect``: a dataset in the browser."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.platform.command import DONE, Commands


def add(commands: Commands) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "inspect",
        help="look into a dataset in the browser: what was kept, what was dropped, and what if",
        epilog="Serves tables and videos of OUTPUT to everybody who reaches the address; the default is "
        "this machine alone. End with Ctrl-C.",
    )
    parser.add_argument("output", metavar="OUTPUT", type=Path, help="finished or running")
    parser.add_argument("--against", metavar="OTHER", type=Path, help="another OUTPUT to compare with")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; default: %(default)s")
    parser.add_argument("--port", type=int, default=8050, help="default: %(default)s")
    parser.set_defaults(run=_inspect)


def _inspect(parsed: argparse.Namespace) -> int:
    import uvicorn

    from pipeline.report.inspector_http import Server
    from pipeline.report.status import read_run

    for output in (parsed.output, parsed.against):
        if output is not None:
            read_run(output)
    server = Server(parsed.output.resolve(), parsed.against and parsed.against.resolve())
    print(f"http://{parsed.host}:{parsed.port}  (end with Ctrl-C)", file=sys.stderr, flush=True)
    uvicorn.run(server.app(parsed.host), host=parsed.host, port=parsed.port, log_level="warning")
    return DONE
