"""Pictures and sound come out of a file with the times at which a player presents them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition
from numpy.typing import NDArray

from benchmarks.cuts import lag
from examples.drawing import plain
from examples.media import Scene, write_video
from models import media
from models.errors import MediaError
from models.media import (
    SAMPLE_RATE,
    Frame,
    GrayScaler,
    audio_tracks,
    frames,
    open_media,
    picture_stream,
    read_audio,
)
from tests.support.odd_files import write_channels

Tone = tuple[float, float]
"""Start and length in seconds."""


def write_tones(
    path: Path,
    tones: Sequence[Tone],
    *,
    codec: Literal["pcm_s16le", "aac"] = "pcm_s16le",
    layout: str = "mono",
    rate: int = 22_050,
) -> None:
    """A tone for each of the spans and no packets between them, beside eight black seconds."""
    with av.open(path, "w") as container:
        video = container.add_stream("libx264", rate=5)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        sound = container.add_stream(codec, rate=rate)
        sound.codec_context.layout = layout
        for _ in range(40):
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((64, 96, 3), np.uint8))))
        container.mux(video.encode())
        for start_s, length_s in tones:
            wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(length_s * rate)) / rate)
            planes = np.tile(wave.astype(np.float32), (len(sound.codec_context.layout.channels), 1))
            frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, round(start_s * rate), Fraction(1, rate)
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))


def heard(samples: NDArray[np.float32]) -> list[Tone]:
    """Return the loud stretches of a sound, to a hundredth of a second."""
    loudness = np.abs(np.pad(samples, (0, -samples.size % 160))).reshape(-1, 160).max(axis=1)
    edges = np.flatnonzero(np.diff((loudness > 0.1).astype(np.int8), prepend=0, append=0)) / 100
    return [(float(start_s), float(end_s - start_s)) for start_s, end_s in edges.reshape(-1, 2)]


@pytest.mark.parametrize(
    "tones",
    [[(0.0, 2.0)], [(2.5, 2.0)], [(0.03, 1.0)], [(0.0, 1.0), (5.0, 1.0), (6.5, 1.0)]],
    ids=["from-the-start", "late", "a-little-late", "with-gaps"],
)
def test_sound_is_heard_when_it_is_presented(tones: list[Tone], tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    write_tones(path, tones)
    samples = read_audio(path, until_s=8.0)
    assert samples.dtype == np.float32 and samples.ndim == 1
    assert np.allclose(heard(samples), tones, atol=0.011)


@pytest.mark.parametrize(
    ("until_s", "tones"), [(0.5, [(0.0, 0.5)]), (3.0, [(0.0, 1.0)]), (5.25, [(0.0, 1.0), (5.0, 0.25)])]
)
def test_sound_is_read_no_further_than_asked(until_s: float, tones: list[Tone], tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    write_tones(path, [(0.0, 1.0), (5.0, 1.0)])
    samples = read_audio(path, until_s=until_s)
    assert samples.size == until_s * SAMPLE_RATE
    assert np.allclose(heard(samples), tones, atol=0.011)


@pytest.mark.parametrize("clock_s", [9.0, 3e4, 3e7], ids=["after-the-pictures", "time-of-day", "a-year"])
def test_sound_with_a_clock_of_its_own_begins_with_the_pictures(clock_s: float, tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    write_tones(path, [(clock_s, 1.0), (clock_s + 3, 2.0)])
    samples = read_audio(path, until_s=8.0)
    assert abs(samples.size - 5 * SAMPLE_RATE) < 100
    assert np.allclose(heard(samples), [(0.0, 1.0), (3.0, 2.0)], atol=0.011)


def test_sound_that_ends_before_the_pictures_begin_is_taken_to_begin_with_them(tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    write_tones(path, [(0.0, 1.0), (3.0, 2.0)])
    samples = read_audio(path, until_s=78.0, from_s=70.0)
    assert np.allclose(heard(samples), [(70.0, 1.0), (73.0, 2.0)], atol=0.011)


@pytest.mark.parametrize("late_s", [0.06, -0.06, -0.2])
def test_sound_that_stays_late_or_early_is_placed_by_its_times(late_s: float, tmp_path: Path) -> None:
    """Fragmented files stamp the first packet by itself, and joined ones overlap."""
    noise = np.random.default_rng(1).normal(0, 0.1, 3 * SAMPLE_RATE).astype(np.float32)
    whole = b""
    for name, start, start_s in (("first.ts", 0, 1.0), ("second.ts", SAMPLE_RATE, 2 + late_s)):
        part = noise[start:] if start else noise[:SAMPLE_RATE]
        with av.open(tmp_path / name, "w") as container:
            sound = container.add_stream("mp2", rate=SAMPLE_RATE, layout="mono")
            frame = av.AudioFrame.from_ndarray((part * 32767).astype(np.int16)[None], "s16", "mono")
            frame.sample_rate, frame.pts = SAMPLE_RATE, round(start_s * SAMPLE_RATE)
            container.mux([*sound.encode(frame), *sound.encode(None)])
        whole += (tmp_path / name).read_bytes()
    (tmp_path / "both.ts").write_bytes(whole)
    samples = read_audio(tmp_path / "both.ts", until_s=4.0)
    delay_s = lag(noise[:SAMPLE_RATE], samples[:SAMPLE_RATE])
    later = samples[2 * SAMPLE_RATE + round(late_s * SAMPLE_RATE) :]
    assert lag(noise[2 * SAMPLE_RATE :], later) == pytest.approx(delay_s, abs=0.005)


def test_sound_may_change_its_form_on_the_way(tmp_path: Path) -> None:
    """As a recorded broadcast does between film and advertisement."""
    for index, layout in enumerate(("mono", "stereo", "mono")):
        write_tones(tmp_path / f"{index}.ts", [(2.0 * index, 1.0)], codec="aac", layout=layout)
    whole = tmp_path / "whole.ts"
    whole.write_bytes(b"".join((tmp_path / f"{index}.ts").read_bytes() for index in range(3)))
    expected = [(2.0 * index, 1.0) for index in range(3)]
    assert np.allclose(heard(read_audio(whole, until_s=8.0)), expected, atol=0.1)


WAVE = np.sin(2 * np.pi * 440 * np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE).astype(np.float32)
NOISE = np.random.default_rng(3).uniform(-1, 1, WAVE.size).astype(np.float32)


@pytest.mark.parametrize(
    ("left", "right", "mixed"),
    [
        (WAVE, WAVE, WAVE),
        (WAVE, -WAVE, WAVE),
        (WAVE, -0.7 * WAVE, WAVE),
        (0 * WAVE, WAVE, WAVE),
        (0.03 * WAVE, NOISE, (0.03 * WAVE + NOISE) / 2),
        (0.4 * WAVE, 0 * WAVE, 0.4 * WAVE),
        (WAVE, NOISE, (WAVE + NOISE) / 2),
        (4 * WAVE, 4 * WAVE, np.clip(4 * WAVE, -1, 1)),
        (0 * WAVE, 0 * WAVE, 0 * WAVE),
    ],
    ids=[
        "both",
        "opposite",
        "unequal",
        "left-empty",
        "left-faint",
        "right-empty",
        "unlike",
        "too-loud",
        "silent",
    ],
)
def test_channels_are_mixed_by_what_they_carry(
    left: NDArray[np.float32], right: NDArray[np.float32], mixed: NDArray[np.float32], tmp_path: Path
) -> None:
    path = tmp_path / "sound.mkv"
    write_channels(path, np.stack([left, right]))
    samples = read_audio(path, until_s=3.0)
    assert samples.size == mixed.size
    assert np.abs(samples).max() <= 1.0
    assert np.allclose(samples, mixed, atol=1e-6)


def test_of_channels_that_cancel_each_other_out_the_same_one_is_taken_all_along(tmp_path: Path) -> None:
    """The louder one changes from second to second."""
    left = WAVE * np.repeat([0.9, 0.8, 0.9], SAMPLE_RATE).astype(np.float32)
    write_channels(tmp_path / "sound.mkv", np.stack([left, -0.85 * WAVE]))
    assert np.allclose(read_audio(tmp_path / "sound.mkv", until_s=3.0), left, atol=1e-6)


@pytest.mark.parametrize(
    ("layout", "speaks", "others"),
    [("5.1", "FC", 0.5), ("5.1", "BR", 0.0), ("7.1", "FC", 0.5), ("7.1", "SL", 0.0)],
)
def test_speech_is_heard_in_whichever_channel_it_is(
    layout: str, speaks: str, others: float, tmp_path: Path
) -> None:
    """PyAV's planes end the process from eight channels on."""
    names = [channel.name for channel in av.AudioLayout(layout).channels]
    channels = np.stack([WAVE if name == speaks else others * NOISE for name in names])
    write_channels(tmp_path / "sound.mov", channels, layout=layout)
    assert np.allclose(read_audio(tmp_path / "sound.mov", until_s=3.0), WAVE, atol=1e-6)


def test_an_empty_centre_is_not_taken_for_the_noise_in_a_pause(tmp_path: Path) -> None:
    """Codecs leave as much noise in all channels of a pause."""
    speech = WAVE * np.repeat([0, 0, 1], SAMPLE_RATE).astype(np.float32)
    channels = 1e-5 * np.resize(NOISE, (6, speech.size)).astype(np.float32)
    channels[0] += speech
    channels[1] -= speech
    write_channels(tmp_path / "sound.mov", channels, layout="5.1")
    assert np.allclose(np.abs(read_audio(tmp_path / "sound.mov", until_s=3.0)), np.abs(speech), atol=1e-4)


def test_tracks_have_a_language_and_can_be_read_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "sound.mkv"
    silence = np.zeros((2, WAVE.size), np.float32)
    write_channels(path, silence, np.stack([WAVE, WAVE]), names=["ger", "eng"])
    assert [(track.index, track.language) for track in audio_tracks(path)] == [(0, "de"), (1, "en")]
    assert not read_audio(path, until_s=3.0).any()
    assert np.allclose(read_audio(path, until_s=3.0, track=1), WAVE, atol=1e-6)


def test_damage_in_the_sound_costs_the_damaged_stretch(tmp_path: Path) -> None:
    path = tmp_path / "film.ts"
    write_tones(path, [(0.0, 8.0)], codec="aac")
    content = bytearray(path.read_bytes())
    at = len(content) // 2 // 188 * 188
    content[at : at + 20 * 188] = bytes(20 * 188)
    path.write_bytes(content)
    samples = read_audio(path, until_s=8.0)
    loud = heard(samples)
    assert loud[0][0] < 0.1 and loud[-1][0] + loud[-1][1] > 7.8
    assert 4.0 < sum(length_s for _, length_s in loud) < 8.0


def test_no_sound_track_is_an_error_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    write_video(path, [Scene(duration_s=1)], width_px=96, height_px=64, audio=False)
    with pytest.raises(MediaError, match="no audio stream"):
        read_audio(path, until_s=1.0)


def test_pictures_are_those_of_the_film_not_of_its_cover(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    with av.open(path, "w") as container:
        cover = container.add_stream("mjpeg")
        cover.width, cover.height, cover.pix_fmt = 128, 128, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        film = container.add_stream("libx264", rate=4)
        film.width, film.height, film.pix_fmt = 96, 64, "yuv420p"
        picture = av.VideoFrame.from_ndarray(np.full((128, 128, 3), 255, np.uint8))
        picture.pts = 0
        container.mux([*cover.encode(picture), *cover.encode()])
        for _ in range(4):
            container.mux(film.encode(av.VideoFrame.from_ndarray(plain((200, 40, 40))(96, 64)(0.0))))
        container.mux(film.encode())
    with open_media(path) as container:
        assert len(container.streams.video) == 2
        stream = picture_stream(container)
        assert stream is not None and stream.codec_context.name == "h264"
        shown = list(frames(container))
        assert [(frame.time_s, frame.duration_s) for frame in shown] == [
            (0.0, 0.25), (0.25, 0.25), (0.5, 0.25), (0.75, 0.25)
        ]  # fmt: skip
        assert np.allclose(shown[0].bgr(48, 32).mean(axis=(0, 1)), (40, 40, 200), atol=4)


def test_pictures_are_written_in_order_and_on_time(tmp_path: Path) -> None:
    colours = np.array([(200, 30, 30), (30, 200, 30), (30, 30, 200), (120, 120, 120)], np.uint8)
    pictures = np.broadcast_to(colours[:, None, None], (4, 32, 48, 3))
    for name, given in (("at-once.mp4", pictures), ("one-by-one.mp4", iter(list(pictures)))):
        media.write_video(tmp_path / name, given, 8.0)
        with open_media(tmp_path / name) as container:
            read = [(f.time_s, f.picture.to_ndarray(format="rgb24")) for f in frames(container)]
        assert [time_s for time_s, _ in read] == [0.0, 0.125, 0.25, 0.375]
        for (_, picture), colour in zip(read, colours, strict=True):
            assert picture.shape == (32, 48, 3)
            assert np.abs(picture.mean((0, 1)) - colour).max() < 6
    assert (tmp_path / "at-once.mp4").read_bytes() == (tmp_path / "one-by-one.mp4").read_bytes()


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"film\.mp4: there are no frames"):
        media.write_video(tmp_path / "film.mp4", [], 8)
    with pytest.raises(ValueError, match="even size, not 49x32"):
        media.write_video(tmp_path / "film.mp4", np.zeros((1, 32, 49, 3), np.uint8), 8)


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {}),
        ("libx264", {"bf": "0"}),
        ("libx264", {"x264-params": "bframes=8:b-pyramid=normal:ref=6:b-adapt=0"}),
        ("mpeg4", {}),
        ("mpeg4", {"bf": "2"}),
    ],
    ids=["b-frames", "none", "pyramid", "mpeg4", "mpeg4-b-frames"],
)
def test_all_pictures_of_an_avi_are_shown_in_order(
    codec: Literal["libx264", "mpeg4"], options: dict[str, str], tmp_path: Path
) -> None:
    """Its index knows only the order of decoding."""
    path = tmp_path / "film.avi"
    with av.open(path, "w") as container:
        film = container.add_stream(codec, rate=25, options=options)
        film.width, film.height, film.pix_fmt = 96, 64, "yuv420p"
        for index in range(175):
            picture = np.zeros((64, 96, 3), np.uint8)
            picture[:, : index // 2 + 8] = 40 + index
            container.mux(film.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(film.encode())
    with open_media(path) as container:
        shown = [(frame.time_s, frame.bgr(96, 64)[:, :4].mean()) for frame in frames(container)]
    assert len(shown) == 175
    times_s, brightness = np.array(shown).T
    assert np.allclose(np.diff(times_s), 0.04, atol=1e-5)
    assert 0 <= times_s[0] <= 0.04
    assert np.allclose(brightness, 40 + np.arange(175), atol=16)


@pytest.mark.parametrize("level", range(16, 26))
def test_dark_grey_stays_grey_when_it_is_scaled(level: int) -> None:
    """Luma 16 is black; noise as a camera's keeps the scaler at work."""
    luma = level + np.random.default_rng(level).integers(0, 3, (360, 640))
    planes = np.concatenate([luma, np.full((180, 640), 128)]).astype(np.uint8)
    frame = Frame(time_s=0.0, duration_s=0.0, picture=av.VideoFrame.from_ndarray(planes, format="yuv420p"))
    image = frame.bgr(256, 144).astype(int)
    assert image.shape == (144, 256, 3)
    assert np.ptp(image, axis=2).max() == 0
    assert abs(image.mean() - (luma.mean() - 16) * 255 / 219) < 1


@pytest.mark.parametrize(
    ("height", "width", "small"),
    [(360, 640, (256, 144)), (448, 797, (256, 144)), (161, 97, (31, 50)), (2, 500, (256, 2))],
)
def test_grey_pictures_are_averaged_as_by_opencv(height: int, width: int, small: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    gray = rng.integers(0, 256, (height, width), np.uint8)
    expected = cv2.resize(gray, small, interpolation=cv2.INTER_AREA)
    assert cv2.absdiff(GrayScaler(*small)(gray), np.asarray(expected, np.uint8)).max() <= 1


def test_a_written_video_depends_on_its_pictures_alone(tmp_path: Path) -> None:
    """Not on what the memory held before, which x264 has read."""
    random = np.random.default_rng(0)
    scene = cv2.resize(random.integers(0, 256, (12, 12, 3), dtype=np.uint8), (340, 340))
    frames = [np.ascontiguousarray(scene[at : at + 320, at : at + 320]) for at in range(9)]
    written: set[bytes] = set()
    for number in range(12):
        dirty = [np.full(size, number, np.uint8) for size in random.integers(1000, 3_000_000, 30)]
        del dirty
        media.write_video(tmp_path / "film.mp4", frames, 4.0)
        written.add((tmp_path / "film.mp4").read_bytes())
    assert len(written) == 1
