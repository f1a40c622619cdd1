"""Clips hold the frames and the sound of their span, copied or encoded."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks.cuts import check, decode, random_span
from examples.media import Truth
from models.errors import MediaError
from models.media import SAMPLE_RATE, frames, open_media, read_audio
from models.media.cutter import CutSettings, cut
from tests.support import odd_files
from tests.support.odd_files import rewritten, write_film

BT709 = {"color_range": 1, "colorspace": 1, "color_primaries": 1, "color_trc": 1}


def transport(path: Path, *, keys: int, codec: str = "libx264") -> None:
    """Write a film with a key frame every so many pictures into a file without an index."""
    write_film(path, codec, options={"g": str(keys)})


def joined(path: Path) -> None:
    """Append a film to another one whose last pictures it overlaps in decoding time."""
    first, second = path.with_name("first.ts"), path.with_name("second.ts")
    write_film(first, options={"g": "25", "bf": "3"})
    rewritten(first, second, later_s=3)
    path.write_bytes(first.read_bytes() + second.read_bytes())


def woven(path: Path) -> None:
    """Write pictures of two fields each."""
    write_film(path, images=odd_files.woven(), options={"x264-params": "tff=1"})


def turned(path: Path, pix_fmt: str = "yuv420p") -> None:
    """Write the film of a camera that was held upright."""
    write_film(path, options={"g": "25"}, pix_fmt=pix_fmt)
    odd_files.turned(path, 90)


ODD: dict[str, tuple[str, Callable[[Path], object]]] = {
    "transport stream": ("odd.ts", partial(transport, keys=25)),
    "transport stream, a key frame only at the start": ("odd.ts", partial(transport, keys=250)),
    "program stream": ("odd.mpg", partial(transport, keys=12, codec="mpeg2video")),
    "two transport streams, joined": ("odd.ts", joined),
    "AV1": ("odd.mp4", partial(write_film, codec="libsvtav1", options={"g": "25", "preset": "12"})),
    "interlaced": ("odd.mp4", woven),
    "turned": ("odd.mp4", turned),
    "turned, full range": ("odd.mp4", partial(turned, pix_fmt="yuvj420p")),
    "RGB": ("odd.mkv", partial(write_film, codec="libx264rgb", pix_fmt="rgb24", options={"crf": "10"})),
    "10 bits, HDR": ("odd.mp4", partial(write_film, pix_fmt="yuv420p10le", color_trc=16, colorspace=9)),
}


@pytest.mark.parametrize("kind", ODD)
def test_clips_of_odd_files_hold_the_right_frames(kind: str, tmp_path: Path) -> None:
    name, make = ODD[kind]
    make(tmp_path / name)
    source = decode(tmp_path / name)
    spans = [(1.0, 2.0), (0.5, 1.7), (1.3, 2.6), (0.0, 0.9)]
    checks = [check(source, *(source.times_s[0] + edge_s for edge_s in span)) for span in spans]
    assert [one for one in checks if not one.right] == []


@pytest.mark.parametrize("colours", [BT709, {**BT709, "color_range": 2}], ids=["limited", "full"])
def test_encoded_pictures_state_the_colours_of_the_source(colours: dict[str, int], tmp_path: Path) -> None:
    source, target = tmp_path / "film.mp4", tmp_path / "clip.mp4"
    make = partial(write_film, source, pix_fmt="yuv420p" if colours["color_range"] == 1 else "yuvj420p")
    make(**colours)
    assert cut(source, target, 0.5, 2.5, CutSettings()) != "copied"
    with open_media(target) as container:
        for frame in frames(container):
            assert {name: getattr(frame.picture, name) for name in colours} == colours


def with_sound(path: Path, sound_s: float, *loudness: float) -> None:
    """Write the film with a tone of three seconds in each track, which begins at a time of its own."""
    film, tones = path.with_name("film.mkv"), path.with_name("tones.mkv")
    write_film(film)
    tone = np.sin(2 * np.pi * 440 * np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE).astype(np.float32)
    odd_files.write_channels(tones, *(np.stack([factor * tone] * 2) for factor in loudness))
    with av.open(film) as pictures, av.open(tones) as sounds, av.open(path, "w") as output:
        both = [(pictures, 0.0), (sounds, sound_s)]
        streams = {one: output.add_stream_from_template(one) for file, _ in both for one in file.streams}
        for file, shift_s in both:
            for packet in file.demux():
                if packet.dts is not None and packet.pts is not None:
                    shift = round(shift_s / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = streams[packet.stream]
                    output.mux(packet)


@pytest.mark.parametrize("sound_s", [0.0, 30.0, 45_296.0], ids=["in time", "later", "time of day"])
def test_clips_have_the_first_track_that_is_not_silent(sound_s: float, tmp_path: Path) -> None:
    with_sound(tmp_path / "odd.mkv", sound_s, 0.0, 0.5)
    cut(tmp_path / "odd.mkv", tmp_path / "clip.mp4", 1.0, 2.0, CutSettings())
    samples = read_audio(tmp_path / "clip.mp4", until_s=1.0)
    assert np.sqrt(np.mean(np.square(samples[1600:-1600]))) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


def test_random_spans_begin_and_end_with_the_right_frame_and_sound(narrated: tuple[Path, Truth]) -> None:
    source = decode(narrated[0])
    chance = random.Random(5)
    spans = [random_span(source, chance, at_keys=number % 3 == 0) for number in range(9)]
    checks = [check(source, *span) for span in spans]
    assert [one for one in checks if not one.right] == []
    assert {"copied", "encoded"} <= {one.means for one in checks}


def test_only_the_edges_of_a_span_are_encoded(narrated: tuple[Path, Truth]) -> None:
    source = decode(narrated[0])
    assert source.keys_s[0] < 1.5 < source.keys_s[1] < source.keys_s[2] < 16.5
    found = check(source, 1.5, 16.5)
    assert found.means == "spliced"
    assert found.right


def test_size_and_rate_are_as_asked(narrated: tuple[Path, Truth], tmp_path: Path) -> None:
    target = tmp_path / "clip.mp4"
    assert cut(narrated[0], target, 2.0, 5.0, CutSettings(height_px=120, fps=10.0)) == "encoded"
    with open_media(target) as container:
        shown = list(frames(container))
    assert [frame.time_s for frame in shown] == pytest.approx(
        [number / 10 for number in range(30)], abs=1e-3
    )
    assert {(frame.picture.width, frame.picture.height) for frame in shown} == {(160, 120)}


def test_a_video_without_sound_gives_a_clip_without(wordless: tuple[Path, Truth], tmp_path: Path) -> None:
    cut(wordless[0], tmp_path / "clip.mp4", 1.0, 3.0, CutSettings())
    with av.open(tmp_path / "clip.mp4") as container:
        assert [stream.type for stream in container.streams] == ["video"]


def test_a_span_without_pictures_leaves_no_file(wordless: tuple[Path, Truth], tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"no pictures from 40\.000 s"):
        cut(wordless[0], tmp_path / "clip.mp4", 40.0, 45.0, CutSettings())
    assert list(tmp_path.iterdir()) == []
