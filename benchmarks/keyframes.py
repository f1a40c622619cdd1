"""Comparison of two ways to choose a clip's frames: evenly, and for coverage.

``python -m benchmarks.keyframes FOLDER ...`` scans every video below the folders, cuts it into clips by
the default configuration, and measures for each clip and each number of frames how far every packed
frame lies from the nearest chosen one: 1 - cosine of image features (EfficientNet-Lite0), mean and
largest of a clip, averaged over clips. Only clips with more packed frames than chosen ones count.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.commands import parser_of
from benchmarks.machine import machine, markdown
from models.image_tags import ImageTagger
from models.language import Endpoint
from pipeline.curation.chain import build_stages
from pipeline.curation.config import Config
from pipeline.platform.config import load
from pipeline.platform.memo import Memo
from stages.base import Workspace
from stages.caption import Choice, choose
from stages.clip import frames_in
from stages.frames import read_pictures
from stages.records import Evidence, Interval, Transcript, Video

CHOICES: tuple[Choice, ...] = ("even", "coverage")


def main() -> None:
    """Measure, print a table, then one JSON object."""
    parser = parser_of("keyframes", __doc__)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--frames", type=int, nargs="+", default=[3, 5, 10])
    parser.add_argument("--grid-fps", type=float, default=2.0, help="packed frames a second")
    arguments = parser.parse_args()
    config = load(None, [f"scan.grid_fps={arguments.grid_fps}", "transcribe.require_speech=false"], Config)
    wanted = {"probe", "scan", "clip"}
    stages = [stage for stage in build_stages(config.config) if stage.name in wanted]
    tagger = ImageTagger(threads=1)
    figures: dict[tuple[int, str], list[dict[str, float]]] = defaultdict(list)
    paths = sorted(path for folder in arguments.folders for path in folder.rglob("*.mp4"))
    with tempfile.TemporaryDirectory() as scratch:
        workspace = Workspace(
            scratch=Path(scratch), answers=Memo(Path(scratch) / "memo"),
            language=Endpoint(base_url="http://127.0.0.1:9/v1", model="none"), vision=None,
        )  # fmt: skip
        for stage in stages:
            stage.open(workspace)
        for path in paths:
            name = hashlib.sha256(path.read_bytes()).hexdigest()
            video = Video(
                uri=path.resolve().as_uri(), video_id=name[:16], content_id=name,
                transcript=Transcript(language="", sentences=[], model=""),
            )  # fmt: skip
            for stage in stages:
                video = stage.measure(video)
            assert video.evidence is not None
            pictures = read_pictures(workspace.frames_path(video), video.evidence.frame_times_s)
            features = normalize(torch.cat([tagger.features([picture]) for picture in pictures]))
            for clip in video.clips:
                for count in arguments.frames:
                    for how in CHOICES:
                        if len(video.evidence.frame_times_s[frames_in(video.evidence, clip)]) > count:
                            found = _figures(video.evidence, clip, features, count, how)
                            figures[count, how].append(found)
    rows = [
        {"frames": count, "choice": how, "clips": len(found)}
        | {key: fmean(one[key] for one in found) for key in found[0]}
        for (count, how), found in sorted(
            figures.items(), key=lambda item: (item[0][0], item[0][1] != "even")
        )
    ]
    print(f"{machine()}\n")
    print(markdown(list(rows[0]), [list(row.values()) for row in rows]), "\n")
    print(json.dumps({"grid_fps": arguments.grid_fps, "videos": len(paths), "rows": rows}))


def _figures(
    evidence: Evidence, clip: Interval, features: Tensor, count: int, how: Choice
) -> dict[str, float]:
    """Of one clip: distances of its frames to the nearest chosen one; how sharp and how many those are."""
    where = {time_s: index for index, time_s in enumerate(evidence.frame_times_s)}
    chosen = [where[time_s] for time_s in choose(evidence, clip, count, how)]
    nearest = (1 - features[frames_in(evidence, clip)] @ features[chosen].T).min(dim=1).values
    return {
        "mean distance": float(nearest.mean()),
        "largest distance": float(nearest.max()),
        "sharpness": fmean(evidence.sharpness[index] for index in chosen),
        "shown": float(len(chosen)),
    }


if __name__ == "__main__":
    main()
