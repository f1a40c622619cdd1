"""Upload the tables, card and report of OUTPUT to a bucket.

Sends what the bucket does not have, the manifest last, and removes shards of the version before.
Credentials, AWS_ENDPOINT_URL and AWS_ALLOW_HTTP come from the environment.

Exit codes: 0 done; 1 the store refused, the same command continues; 2 OUTPUT is no dataset.
"""

from __future__ import annotations

import argparse

from pipeline.platform.command import DONE, Commands, add_command, local_folder


def add(commands: Commands) -> None:
    """Register the command."""
    parser = add_command(commands, "push", __doc__, _push)
    parser.add_argument("output", metavar="OUTPUT", type=local_folder, help="of `videoauteur curate`")
    parser.add_argument("url", metavar="URL", help="s3://BUCKET/FOLDER, gs://..., az://... or file://...")


def _push(parsed: argparse.Namespace) -> int:
    from pipeline.dataset.push import push

    done = push(parsed.output, parsed.url)
    print(f"{parsed.url}: {done.sent} files sent, {done.there} were there, {done.removed} removed")
    return DONE
