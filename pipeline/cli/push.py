"""``videoauteur push``: a dataset into a bucket."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.platform.command import DONE, FAILED, Commands


def add(commands: Commands) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "push",
        help="upload the tables, card and report of OUTPUT to a bucket",
        description="Sends what the bucket does not have, the manifest last, and removes shards of the "
        "version before. Credentials, AWS_ENDPOINT_URL and AWS_ALLOW_HTTP come from the environment.",
        epilog="Exit codes: 0 done; 1 the store refused; the same command goes on.",
    )
    parser.add_argument("output", metavar="OUTPUT", type=Path, help="of `videoauteur curate`")
    parser.add_argument("url", metavar="URL", help="s3://BUCKET/FOLDER, gs://..., az://... or file://...")
    parser.set_defaults(run=_push)


def _push(parsed: argparse.Namespace) -> int:
    from pipeline.dataset.manifest import DatasetError
    from pipeline.dataset.push import push

    try:
        done = push(parsed.output, parsed.url)
    except DatasetError as error:
        print(f"videoauteur: {error}", file=sys.stderr)
        return FAILED
    print(f"{parsed.url}: {done.sent} files sent, {done.there} were there, {done.removed} removed")
    return DONE
