"""Input of the fault benchmark: short segments of real videos, and made films where there are none."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import av
from av.container import InputContainer, OutputContainer

from examples.drawing import moving_blobs
from examples.media import Scene, write_video

SEGMENT_S = 5.0
"""Least length of a segment."""
FOLDERS = ("recipes", "real", "scenes")
"""Folders of ``VIDEOAUTEUR_DATA`` with films."""


def segments(source: Path, folder: Path, most: int) -> list[Path]:
    """Copy at most so many segments of a film, each from a key frame on, without encoding.

    Returns:
        the files ``folder/NAME-N.mp4``, in order.
    """
    found: list[Path] = []
    with av.open(str(source)) as film:
        # Streams of subtitles and data would need codecs that MP4 lacks.
        wanted = [*film.streams.video[:1], *film.streams.audio[:1]]
        output: OutputContainer | None = None
        start_s = 0.0
        for packet in film.demux(*wanted):
            if packet.pts is None or packet.dts is None:
                continue
            time_s = float(packet.pts * packet.time_base)
            starts = packet.stream is wanted[0] and packet.is_keyframe
            if starts and (output is None or time_s - start_s >= SEGMENT_S):
                if output is not None:
                    output.close()
                if len(found) == most:
                    return found
                found.append(folder / f"{source.stem}-{len(found)}.mp4")
                output, copies = _begun(film, found[-1])
                start_s = time_s
            if output is None:
                continue
            shift = round(start_s / packet.time_base)
            if packet.dts >= shift or packet.stream is wanted[0]:
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = copies[packet.stream.index]
                output.mux(packet)
        if output is not None:
            output.close()
    return found


def _begun(film: InputContainer, target: Path) -> tuple[OutputContainer, dict[int, av.stream.Stream]]:
    output = av.open(str(target), "w")
    streams = [*film.streams.video[:1], *film.streams.audio[:1]]
    return output, {stream.index: output.add_stream_from_template(stream) for stream in streams}


def real_films(data: Path, folder: Path, number: int) -> list[Path]:
    """Cut so many segments of the sample films, from as many films as there are."""
    folder.mkdir()
    sources = [path for name in FOLDERS for path in sorted((data / name).glob("*.mp4"))]
    cut = [segments(source, folder, number) for source in sources]
    # One of each film first, then the second of each.
    order = [film[at] for at in range(number) for film in cut if at < len(film)]
    # The last segment of a film may be shorter than a video has to be.
    return [path for path in order if _length_s(path) >= SEGMENT_S][:number]


def _length_s(path: Path) -> float:
    with av.open(str(path)) as film:
        return float(film.duration or 0) / av.time_base


def write_film(path: Path, seed: int, seconds: float) -> None:
    """Write a film of two shots without sound."""
    scenes = [
        Scene(
            duration_s=seconds, picture=moving_blobs(seed + shot, (90 + 100 * shot, 120, 200 - 90 * shot))
        )
        for shot in range(2)
    ]
    write_video(path, scenes, width_px=320, height_px=240, fps=15, audio=False)


def made_films(folder: Path, number: int) -> list[Path]:
    """Write so many films."""
    folder.mkdir()
    films = [folder / f"made-{seed:02d}.mp4" for seed in range(number)]
    for seed, film in enumerate(films):
        write_film(film, seed=10 * seed, seconds=3.0)
    return films


def copied(films: Sequence[Path], folder: Path) -> None:
    """Copy films into a new folder."""
    folder.mkdir()
    for film in films:
        shutil.copy(film, folder / film.name)
