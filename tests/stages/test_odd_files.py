"""Odd files: each kind, and exactly the facts and shots that come out of it.

``python -m tests.stages.test_odd_files`` prints the table in Markdown. The film has three shots, with cuts
at 1 and 2 s; see :mod:`tests.support.odd_files`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks.machine import markdown
from models.errors import MediaError
from models.language import Endpoint
from models.media import SAMPLE_RATE, audio_tracks, read_audio
from pipeline.curation.chain import build_stages
from pipeline.curation.config import Config
from pipeline.platform.memo import Memo
from stages.base import BadInputError, Workspace
from stages.frames import read_pictures
from stages.probe import Probe
from stages.records import Video
from stages.scan.stage import Scan
from tests.support import odd_files
from tests.support.odd_files import AnyPacket, rewritten, write_film

TONE = np.sin(2 * np.pi * 440 * np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE).astype(np.float32) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd:
    """A kind of file.

    Attributes:
        make: writes one.
        found: what comes out of it.
        suffix: of its name; the container that it is written in.
        sound: whether it is its sound that is odd.
    """

    make: Callable[[Path], object]
    found: str
    suffix: str = ".mp4"
    sound: bool = False


def copied(
    path: Path,
    change: odd_files.Change | None = None,
    later_s: int = 0,
    codec: str = "libx264",
    coding: Mapping[str, str] | None = None,
    **options: str,
) -> None:
    """Write the film and copy its streams into another file."""
    source = path.with_name("film.mp4")
    write_film(source, codec, options=coding)
    rewritten(source, path, change, later_s=later_s, **options)


def moved(seconds: float, numbers: range, number: int, packet: AnyPacket) -> AnyPacket:
    """Move the times of some packets."""
    if number in numbers and packet.pts is not None and packet.dts is not None:
        shift = round(seconds / packet.time_base)
        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
    return packet


def zeroed(numbers: range, number: int, packet: AnyPacket) -> AnyPacket:
    """Put zeros in the place of some packets' content."""
    if number not in numbers:
        return packet
    empty: AnyPacket = type(packet)(bytes(packet.size))
    empty.pts, empty.dts, empty.time_base = packet.pts, packet.dts, packet.time_base
    empty.duration, empty.stream = packet.duration, packet.stream
    return empty


def without(numbers: range, number: int, packet: AnyPacket) -> AnyPacket | None:
    """Leave some packets out."""
    return None if number in numbers else packet


def twice(path: Path) -> None:
    """Write a transport stream and append it to itself."""
    write_film(path)
    path.write_bytes(2 * path.read_bytes())


def cut_off(path: Path) -> None:
    """Write a file whose index comes first, and leave out its second half."""
    copied(path, movflags="faststart")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def holed(path: Path, size: int = 700, place: float = 0.5) -> None:
    """Write zeros over packets and the headers between them, so that the demuxer passes over them."""
    source = path.with_name("film.mp4")
    write_film(source, images=[*odd_files.pictures(), *odd_files.pictures()])
    rewritten(source, path, cluster_time_limit="120")
    content = bytearray(path.read_bytes())
    start = round(place * len(content))
    content[start : start + size] = bytes(size)
    path.write_bytes(content)


def rotated(path: Path) -> None:
    """Write the film with a note to turn it by 90 degrees."""
    write_film(path)
    odd_files.turned(path, 90)


def stereo(left: float, right: float, path: Path) -> None:
    """Write a tone with a factor for either channel."""
    odd_files.write_channels(path, np.stack([left * TONE, right * TONE]))


ODD: dict[str, Odd] = {
    "nothing odd": Odd(
        make=write_film, found="160 x 96 px; 75 pictures from 0 to 3 s; cuts at 1, 2; luma 0.51"
    ),
    "turned by 90 degrees": Odd(
        make=rotated, found="96 x 160 px; 75 pictures from 0 to 3 s; cuts at 1, 2; luma 0.51"
    ),
    "samples twice as wide as high": Odd(
        make=partial(write_film, sample_aspect_ratio=Fraction(2)),
        found="320 x 96 px; 75 pictures from 0 to 3 s; cuts at 1, 2; luma 0.51",
    ),
    "absurd shape of samples, 100 to 1": Odd(
        make=partial(write_film, sample_aspect_ratio=Fraction(100)),
        found="160 x 96 px; 75 pictures from 0 to 3 s; cuts at 1, 2; luma 0.51",
    ),
    "10 bits a sample": Odd(
        make=partial(write_film, pix_fmt="yuv420p10le"),
        found="160 x 96 px; 75 pictures from 0 to 3 s; cuts at 1, 2; luma 0.51",
    ),
    "10 bits, tagged as HDR (PQ, BT.2020)": Odd(
        make=partial(write_film, pix_fmt="yuv420p10le", color_trc=16, color_primaries=9, colorspace=9),
        found="160 x 96 px; 75 pictures from 0 to 3 s; cuts at 1, 2; luma 0.50",
    ),
    "full range of luma": Odd(
        make=partial(write_film, pix_fmt="yuvj420p"),
        found="160 x 96 px; 75 pictures from 0 to 3 s; cuts at 1, 2; luma 0.51",
    ),
    "grey, without colour planes": Odd(
        make=partial(write_film, pix_fmt="gray"),
        found="160 x 96 px; 75 pictures from 0 to 3 s; cuts at 1, 2; luma 0.53",
    ),
    "no subsampling of colour": Odd(
        make=partial(write_film, pix_fmt="yuv444p"),
        found="160 x 96 px; 75 pictures from 0 to 3 s; cuts at 1, 2; luma 0.52",
    ),
    "odd width and height": Odd(
        make=partial(write_film, codec="mpeg4", size=(161, 97)),
        suffix=".mkv",
        found="161 x 97 px; 75 pictures from 0 to 3 s; cuts at 1, 2; luma 0.52",
    ),
    "a preview before the film": Odd(
        make=odd_files.write_two_streams,
        found="160 x 96 px; 75 pictures from 0 to 3 s; cuts at 1, 2; luma 0.51",
    ),
    "a cover before the film": Odd(
        make=odd_files.write_cover, found="160 x 96 px; 75 pictures from 0 to 3 s; cuts at 1, 2; luma 0.51"
    ),
    "times begin at 5000 s": Odd(
        make=partial(copied, later_s=5000),
        suffix=".ts",
        found="160 x 96 px; 75 pictures from 0 to 3 s; cuts at 1, 2; luma 0.51",
    ),
    "times begin at 5000 s, and the length counts from 0": Odd(
        make=partial(copied, later_s=5000),
        suffix=".mkv",
        found="160 x 96 px; 75 pictures from 0 to 3 s; cuts at 1, 2; luma 0.51",
    ),
    "appended to itself": Odd(
        make=twice,
        suffix=".ts",
        found="rejected, bad_timestamps: time stamps of 75 of 150 pictures go back",
    ),
    "every second time missing": Odd(
        make=odd_files.write_without_times,
        suffix=".ts",
        found="160 x 96 px; 75 pictures from 0 to 3 s; cuts at 1, 2; luma 0.51",
    ),
    "decoding times only": Odd(
        make=write_film,
        suffix=".avi",
        found="160 x 96 px; 75 pictures from 0.04 to 3.04 s; cuts at 1.04, 2.04; luma 0.51",
    ),
    "times leap by 20 s": Odd(
        make=partial(copied, change=partial(moved, 20, range(40, 75))),
        suffix=".mkv",
        found="160 x 96 px; 74 pictures from 0 to 23 s; cuts at 1, 22; luma 0.50; 1 lost, gaps: none",
    ),
    "times leap by 10,000,000 s": Odd(
        make=partial(copied, change=partial(moved, 1e7, range(40, 75))),
        suffix=".mkv",
        found="rejected, bad_timestamps: time stamps leap from 1.52 s to 10000001.56 s",
    ),
    "an edit list that hides the first half second": Odd(
        make=partial(
            copied, change=partial(moved, -0.52, range(75)), avoid_negative_ts="disabled", use_editlist="1"
        ),
        found="160 x 96 px; 62 pictures from 0 to 2.48 s; cuts at 0.48, 1.48; luma 0.51",
    ),
    "interlaced, cuts between two fields": Odd(
        make=partial(write_film, images=odd_files.woven(), options={"x264-params": "interlaced=1"}),
        found="160 x 96 px; 74 pictures from 0 to 2.96 s; cuts at 1, 2; luma 0.51",
    ),
    "variable rate: a third of the pictures left out": Odd(
        make=partial(copied, change=lambda n, packet: packet if n % 3 or n < 3 else None),
        suffix=".mkv",
        found="160 x 96 px; 51 pictures from 0 to 3 s; cuts at 1, 2; luma 0.51",
    ),
    "black bars above and below": Odd(
        make=partial(write_film, images=odd_files.letterboxed()),
        found="160 x 96 px; 75 pictures from 0 to 3 s; cuts at 1, 2; luma 0.38; inside 0, 0.125, 1, 0.875",
    ),
    "white bars left and right": Odd(
        make=partial(write_film, images=odd_files.pillarboxed((250, 250, 250)), size=(320, 96)),
        found="320 x 96 px; 75 pictures from 0 to 3 s; cuts at 1, 2; luma 0.75",
    ),
    "blue bars left and right": Odd(
        make=partial(write_film, images=odd_files.pillarboxed((30, 60, 160)), size=(320, 96)),
        found="320 x 96 px; 75 pictures from 0 to 3 s; cuts at 1, 2; luma 0.38",
    ),
    "three packets of zeros": Odd(
        make=partial(copied, change=partial(zeroed, range(30, 33))),
        suffix=".mkv",
        found="160 x 96 px; 72 pictures from 0 to 3 s; cuts at 1, 2; luma 0.51; 3 lost, gaps: 1.2 to 2 s",
    ),
    "zeros over packets and their headers": Odd(
        make=holed,
        suffix=".mkv",
        found="160 x 96 px; 148 pictures from 0 to 6 s; cuts at 1, 2, 4, 5; luma 0.52; "
        "2 lost, gaps: 2.88 to 4 s",
    ),
    "zeros over packets of a transport stream": Odd(
        make=partial(holed, size=2820, place=0.55),
        suffix=".ts",
        found="160 x 96 px; 145 pictures from 0 to 6 s; cuts at 1, 2, 3, 4, 5; luma 0.51; "
        "4 lost, gaps: 3.04 to 4 s",
    ),
    "zeros over packets and their headers, FLV": Odd(
        make=partial(holed, size=700, place=0.6),
        suffix=".flv",
        found="160 x 96 px; 147 pictures from 0 to 6 s; cuts at 1, 2, 3, 4, 5; luma 0.51; "
        "2 lost, gaps: 3.201 to 4 s",
    ),
    "HEVC, a key frame of zeros": Odd(
        make=partial(
            copied,
            change=partial(zeroed, range(25, 26)),
            codec="libx265",
            coding={"x265-params": "keyint=25:bframes=0:log-level=none"},
        ),
        suffix=".mkv",
        found="rejected, corrupt: 25 of 75 pictures are damaged, missing or out of order",
    ),
    "one packet in two of zeros": Odd(
        make=partial(copied, change=partial(zeroed, range(1, 75, 2))),
        suffix=".mkv",
        found="rejected, corrupt: 36 of 71 pictures are damaged, missing or out of order",
    ),
    "begins without its first key frame": Odd(
        make=partial(copied, change=partial(without, range(1))),
        suffix=".mkv",
        found="160 x 96 px; 50 pictures from 0.84 to 2.84 s; cuts at 1.84; luma 0.52",
    ),
    "second half missing": Odd(make=cut_off, found="rejected, truncated: pictures end at 0.92 s of 3.00 s"),
    "two sound tracks, the first one silent": Odd(
        make=lambda path: odd_files.write_channels(
            path, np.zeros((2, TONE.size), np.float32), np.stack([TONE, TONE]), names=["ger", "eng"]
        ),
        suffix=".mkv",
        sound=True,
        found="track 0 (de): 0.00; track 1 (en): 0.35",
    ),
    "channels of opposite phase": Odd(
        make=partial(stereo, 1, -1), suffix=".mkv", sound=True, found="track 0: 0.35"
    ),
    "an empty channel": Odd(make=partial(stereo, 0, 1), suffix=".mkv", sound=True, found="track 0: 0.35"),
}


def outcome(odd: Odd, folder: Path) -> str:
    """Write a file and put into words what is found in it."""
    path = folder / f"odd{odd.suffix}"
    odd.make(path)
    return heard(path) if odd.sound else seen(path, folder)


def seen(path: Path, scratch: Path) -> str:
    """Probe and scan a file."""
    config = {"probe": {"min_duration_s": 0}, "transcribe": {"require_speech": False}}
    probe, scan, *_ = build_stages(Config.model_validate(config))
    assert isinstance(probe, Probe) and isinstance(scan, Scan)
    nowhere = Endpoint(base_url="http://127.0.0.1:9/v1", model="none")
    scan.open(Workspace(scratch=scratch, answers=Memo(scratch / "memo"), language=nowhere, vision=None))
    try:
        video = scan(probe(Video(uri=path.as_uri(), video_id="a" * 16, content_id="a" * 64)))
    except BadInputError as error:
        return f"rejected, {error}"
    except MediaError as error:
        return f"rejected, {error.problem}: {error.detail}"
    if video.rejected is not None:
        return f"rejected, {video.rejected.reason}: {video.rejected.detail}"
    facts, evidence = video.facts, video.evidence
    assert facts is not None and evidence is not None
    (picture,) = read_pictures(scan.workspace.frames_path(video), evidence.frame_times_s[1:2])
    parts = [
        f"{picture.shape[1]} x {picture.shape[0]} px",
        f"{evidence.num_frames} pictures from {facts.start_s:g} to {facts.end_s:g} s",
        f"cuts at {', '.join(f'{shot.start_s:g}' for shot in evidence.shots[1:]) or 'no time'}",
        f"luma {np.mean(evidence.exposure):.2f}",
    ]
    if evidence.picture_box is not None:
        parts.append(f"inside {', '.join(f'{edge:g}' for edge in evidence.picture_box)}")
    if evidence.num_lost:
        gaps = ", ".join(f"{gap.start_s:g} to {gap.end_s:g} s" for gap in evidence.gaps)
        parts.append(f"{evidence.num_lost} lost, gaps: {gaps or 'none'}")
    return "; ".join(parts)


def heard(path: Path) -> str:
    """Read every sound track of a file, in the order in which speech is looked for."""
    tracks = []
    for track in audio_tracks(path):
        samples = read_audio(path, until_s=3.0, track=track.index)
        language = f" ({track.language})" if track.language else ""
        tracks.append(f"track {track.index}{language}: {np.sqrt(np.mean(np.square(samples))):.2f}")
    return "; ".join(tracks)


@pytest.mark.parametrize("name", ODD)
def test_an_odd_file_gives_exactly_this(name: str, tmp_path: Path) -> None:
    assert outcome(ODD[name], tmp_path) == ODD[name].found


def main() -> None:
    """Print what every kind of file is and what comes out."""
    rows = []
    for name, odd in ODD.items():
        with tempfile.TemporaryDirectory() as folder:
            rows.append([name, outcome(odd, Path(folder))])
    print(markdown(["file", "found"], rows))


if __name__ == "__main__":
    main()
