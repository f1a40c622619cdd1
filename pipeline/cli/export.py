"""``videoauteur export``: datasets and models in other forms."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.platform.command import DONE, FAILED, Commands, positive


def add(commands: Commands) -> Commands:
    """Register the command; return the parsers below it, for other kinds of exports."""
    parser = commands.add_parser("export", help="write a dataset or a model in another form")
    kinds = parser.add_subparsers(required=True, metavar="KIND")
    media = kinds.add_parser(
        "media",
        help="cut the clips of OUTPUT out of their videos, as OUTPUT/media/CLIP_ID.mp4",
        description="A clip that begins and ends at key frames is copied, every other one is encoded; "
        "both are exact to the frame. With --height or --fps all are encoded.",
        epilog="Clips that lie there already are skipped, so the same command goes on where it stopped. "
        "Exit codes: 0 done; 1 a clip could not be cut; 2 bad usage.",
    )
    media.add_argument("output", metavar="OUTPUT", type=Path, help="of `videoauteur curate`")
    media.add_argument(
        "--height", type=positive, metavar="PX", help="of the pictures; default: as they are"
    )
    media.add_argument("--fps", type=positive, metavar="N", help="frames a second; default: as they are")
    media.set_defaults(run=_media)
    return kinds


def _media(parsed: argparse.Namespace) -> int:
    from models.media.cutter import CutSettings
    from pipeline.dataset.media import MEDIA, export_media

    outcomes = export_media(parsed.output, CutSettings(height_px=parsed.height, fps=parsed.fps))
    print(
        f"{parsed.output / MEDIA}: {', '.join(f'{n} {what}' for what, n in outcomes.items()) or 'no clips'}"
    )
    return DONE if outcomes.keys() <= {"copied", "encoded", "there"} else FAILED
