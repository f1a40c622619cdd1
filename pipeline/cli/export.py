"""``videoauteur export``: datasets and models in other forms."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.platform.command import DONE, FAILED, Commands, folder_to_write, positive
from pipeline.platform.storage import is_url, place

LAYOUTS = {
    "clips": "clips in one folder with manifests for datasets, DiffSynth, musubi-tuner and finetrainers",
    "multishot": "narratives as folders of numbered shots, as LongLive and ShotStream read them",
    "webdataset": "tar shards of clips, key frames and JSON",
}


def add(commands: Commands) -> Commands:
    """Register the command; return the parsers below it, for other kinds of exports."""
    parser = commands.add_parser("export", help="Write a dataset or a model in another form.")
    kinds = parser.add_subparsers(required=True, metavar="KIND")
    media = kinds.add_parser(
        "media",
        help="cut the clips of OUTPUT out of their videos, as OUTPUT/media/CLIP_ID.mp4",
        description="A clip that begins and ends at key frames is copied, every other one is encoded; "
        "both are exact to the frame. With --height or --fps all are encoded.",
        epilog="Clips that lie there already are skipped, so the same command goes on where it stopped. "
        "Exit codes: 0 done; 1 a clip could not be cut; 2 bad usage.",
    )
    _add_cut_options(media)
    media.set_defaults(run=_media)
    for name, told in LAYOUTS.items():
        layout = kinds.add_parser(
            name, help=told,
            epilog="TARGET appears whole. Exit codes: 0 done; 2 bad usage, or no clip could be cut.",
        )  # fmt: skip
        _add_cut_options(layout)
        layout.add_argument(
            "target", metavar="TARGET", type=folder_to_write, help="a new folder, or an earlier export"
        )
        if name == "webdataset":
            layout.add_argument(
                "--shard-mb", type=positive, default=512, metavar="MB",
                help="size at which a shard ends (default: %(default)s)",
            )  # fmt: skip
        layout.set_defaults(run=_layout, layout=name)
    return kinds


def _add_cut_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="OUTPUT", type=place, help="of `videoauteur curate`, or its URL")
    parser.add_argument(
        "--height", type=positive, metavar="PX", help="of the pictures; default: as they are"
    )
    parser.add_argument("--fps", type=positive, metavar="N", help="frames a second; default: as they are")


def _media(parsed: argparse.Namespace) -> int:
    return write_media(parsed.output, parsed.height, parsed.fps)


def write_media(output: Path | str, height_px: int | None, fps: float | None) -> int:
    """Cut the clips of OUTPUT, print their number by outcome, and return the exit code."""
    from models.media.cutter import CutSettings
    from pipeline.dataset.media import MEDIA, WITH_FILE, export_media, upload_media

    outcomes = export_media(output, CutSettings(height_px=height_px, fps=fps))
    if is_url(output):
        upload_media(str(output))
    print(f"{output}/{MEDIA}: {', '.join(f'{n} {what}' for what, n in outcomes.items()) or 'no clips'}")
    return DONE if outcomes.keys() <= WITH_FILE else FAILED


def _layout(parsed: argparse.Namespace) -> int:
    from models.media.cutter import CutSettings
    from pipeline.dataset import layouts

    settings = CutSettings(height_px=parsed.height, fps=parsed.fps)
    if parsed.layout == "clips":
        told = f"{layouts.export_clips(parsed.output, parsed.target, settings)} clips"
    elif parsed.layout == "multishot":
        told = f"{layouts.export_multishot(parsed.output, parsed.target, settings)} stories"
    else:
        limit = parsed.shard_mb * 1_000_000
        shards = layouts.export_webdataset(parsed.output, parsed.target, settings, shard_bytes=limit)
        told = f"{shards} shards"
    print(f"{parsed.target}: {told}")
    return DONE
