"""Make films for callers over HTTP.

Keys come from the environment variable that serve.api_keys_env names; on loopback one is made if there
is none. The interface is described at /openapi.json, and / is a page for people. With RAY_ADDRESS the
service runs on that cluster.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading

from generation.cli.generate import add_model_options, models_of
from pipeline.platform.command import DONE, Commands, add_command, folder_to_write


def add(commands: Commands) -> None:
    """Register the command."""
    parser = add_command(commands, "serve", __doc__, _serve)
    parser.add_argument(
        "--jobs", type=folder_to_write, required=True, metavar="DIR", help="where films are made"
    )
    parser.add_argument(
        "--results", metavar="URL",
        help="object store for jobs and finished films: s3://BUCKET/FOLDER, gs://..., az://...; --jobs is "
        "then a cache, and a service on another machine continues from there",
    )  # fmt: skip
    add_model_options(parser)


def _serve(parsed: argparse.Namespace) -> int:
    from generation.film.plan import ANSWERS
    from generation.service.serving import made_key, running

    ended = threading.Event()
    models = models_of(parsed, answers=parsed.jobs / ANSWERS)
    options = models.recipe().serve
    key = made_key(options)
    with running(models, parsed.jobs, parsed.results):
        # Only now: Ray puts handlers of its own into place when it starts.
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, lambda number, frame: ended.set())
        address = f"http://{options.host}:{options.port}"
        print(f"API     {address}/openapi.json", file=sys.stderr)
        if key is not None:
            print(f"key     {key}  (made for this start; set {options.api_keys_env})", file=sys.stderr)
        print(
            f"studio  {address}/{f'#key={key}' if key else ''}  (end with Ctrl-C)",
            file=sys.stderr,
            flush=True,
        )
        ended.wait()
    return DONE
