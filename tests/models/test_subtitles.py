"""Subtitles as people write them, as machines write them, and as vandals do."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from models.subtitles import Cue, Subtitles, read_embedded, read_side_car, side_cars

SRT = """1
00:00:01,000 --> 00:00:02,500
<i>Chop</i> the {\\an8}onions &amp; leeks
and <font color="#fff">fry</font> them. [sizzling]

2
00:00:03,000 --> 00:00:04,000
>> Stir. ♪

3
00:00:04,500 --> 00:00:05,000
(upbeat music)
"""
CUES = (
    Cue(start_s=1.0, end_s=2.5, lines=("Chop the onions & leeks", "and fry them.")),
    Cue(start_s=3.0, end_s=4.0, lines=("Stir.",)),
)
ROLLING = """WEBVTT
Kind: captions
Language: en

00:00:00.000 --> 00:00:02.000 align:start position:0%
 
add<00:00:00.400><c> some</c><00:00:00.800><c> oil</c>

00:00:02.000 --> 00:00:02.010 align:start position:0%
add some oil
 

00:00:02.010 --> 00:00:04.000 align:start position:0%
add some oil
and<00:00:02.400><c> stir</c>

00:00:04.000 --> 00:00:04.010 align:start position:0%
and stir
 

00:00:05.000 --> 00:00:06.000 align:start position:0%
and stir
"""  # noqa: W293 - a line of one blank is how they write it


def beside(folder: Path, content: bytes | str, name: str = "soup.srt") -> Path:
    """A video's path with a file beside it."""
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / "soup.mp4"


def read(folder: Path, content: bytes | str, name: str = "soup.srt") -> Subtitles | None:
    return read_side_car(beside(folder, content, name), None, until_s=60)


def cues(folder: Path, content: bytes | str, name: str = "soup.srt") -> tuple[Cue, ...]:
    found = read(folder, content, name)
    return found.cues if found else ()


def test_tags_and_sounds_are_no_words(tmp_path: Path) -> None:
    assert read(tmp_path, SRT) == Subtitles(language="", form="srt", cues=CUES)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
def test_any_common_encoding_is_read(encoding: str, tmp_path: Path) -> None:
    text = SRT.replace("onions", "Süppchen").replace("\n", "\r\n")
    assert cues(tmp_path, text.encode(encoding))[0].lines[0] == "Chop the Süppchen & leeks"
    latin = SRT.replace("onions", "Süppchen").encode("cp1252", errors="ignore")
    assert cues(tmp_path, latin)[0].lines[0] == "Chop the Süppchen & leeks"


def test_lines_that_roll_up_are_said_once(tmp_path: Path) -> None:
    assert cues(tmp_path, ROLLING, "soup.vtt") == (
        Cue(start_s=0.0, end_s=2.0, lines=("add some oil",)),
        Cue(start_s=2.01, end_s=4.0, lines=("and stir",)),
        # After a second of nothing somebody says it again.
        Cue(start_s=5.0, end_s=6.0, lines=("and stir",)),
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello\nworld\n",
        b"\x00\xff" * 500,
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        b"1\n00:00:05,000 --> 00:00:02,000\nbackwards\n",
        b"1\n99:00:00,000 --> 99:00:01,000\nafter the end\n",
        b"1\n00:00:01,000 --> 00:00:02,000\n[Music]\n",
        b"WEBVTT\n\n00:01.000 --> 00:02.000\nnot an srt\n",
    ],
    ids=["empty", "prose", "noise", "playlist", "backwards", "late", "sounds", "other-format"],
)
def test_what_cannot_be_used_is_as_good_as_absent(content: bytes, tmp_path: Path) -> None:
    assert read(tmp_path, content) is None


def test_one_bad_file_does_not_stand_before_a_good_one(tmp_path: Path) -> None:
    beside(tmp_path, "nothing of use")
    found = read(tmp_path, SRT, "soup.en.srt")
    assert found is not None and (found.language, found.cues) == ("en", CUES)


def test_what_is_too_large_is_left_alone(tmp_path: Path) -> None:
    video = beside(tmp_path, SRT + " " * 10_000_000)
    assert list(side_cars(video, None)) == []
    long_line = "1\n00:00:01,000 --> 00:00:02,000\n" + "word " * 5_000 + "\n"
    assert len(cues(tmp_path, long_line)[0].lines[0]) <= 1_000


def test_files_are_sought_by_the_videos_name_and_language(tmp_path: Path) -> None:
    for name in ("soup.de.srt", "soup.en.vtt", "soup.vtt", "soup.srt", "soup2.srt", "other.srt"):
        beside(tmp_path, SRT, name)
    video = tmp_path / "soup.mp4"
    assert [path.name for path, _ in side_cars(video, None)] == ["soup.srt", "soup.vtt", "soup.en.vtt"]
    assert [path.name for path, _ in side_cars(video, "de")] == ["soup.srt", "soup.vtt", "soup.de.srt"]


def test_positions_of_lines_are_no_text(tmp_path: Path) -> None:
    vtt = "WEBVTT\n\n00:01.000 --> 00:02.000\n{\\an8}Stir <i>well</i>.\n"
    found = read(tmp_path, vtt, "soup.vtt")
    assert found is not None and found.cues[0].lines == ("Stir well.",)


@pytest.mark.parametrize("stem", ["s" * 251, os.fsdecode(b"so\xffup")], ids=["too-long", "not-utf-8"])
def test_any_name_of_a_video_can_be_asked_for(stem: str, tmp_path: Path) -> None:
    assert list(side_cars(tmp_path / f"{stem}.mp4", "en")) == []


def film(path: Path, *, with_text: bool) -> Path:
    """Six seconds of nothing to see, with the cues above as a German stream of subtitles."""
    source = path.with_suffix(".srt")
    source.write_text(SRT)
    with av.open(str(source)) as given, av.open(str(path), "w") as container:
        pictures = container.add_stream("libx264", rate=5)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 64, "yuv420p"
        text = given.streams.subtitles[0]
        stream = container.add_stream_from_template(text) if with_text else None
        if stream is not None:
            stream.metadata["language"] = "ger"
        for index in range(30):
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 5)
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode())
        for packet in given.demux(text):
            if packet.size and stream is not None:
                packet.stream = stream
                container.mux(packet)
    source.unlink()
    return path


def test_a_line_that_outlasts_the_video_ends_with_it(tmp_path: Path) -> None:
    lines = "1\n00:00:01,000 --> 00:00:09,000\nFry it.\n\n2\n00:00:05,000 --> 00:00:09,000\nBye.\n"
    found = read_side_car(beside(tmp_path, lines), None, until_s=5.0)
    assert found is not None
    assert found.cues == (Cue(start_s=1.0, end_s=5.0, lines=("Fry it.",)),)


def test_streams_of_text_in_the_video_are_read(tmp_path: Path) -> None:
    path = film(tmp_path / "soup.mkv", with_text=True)
    found = read_embedded(path, None, until_s=60)
    assert found is not None
    assert (found.language, found.cues) == ("de", CUES)
    assert read_embedded(path, "de", until_s=60) == found
    # Somebody asked for another language: then it is recognised.
    assert read_embedded(path, "fr", until_s=60) is None
    assert read_embedded(film(tmp_path / "bare.mkv", with_text=False), None, until_s=60) is None


def test_a_cues_words_share_its_time_by_their_letters() -> None:
    words = Cue(start_s=1.0, end_s=3.0, lines=("ab cdef", "gh")).words()
    assert [(word.start_s, word.end_s, word.text) for word in words] == [
        (1.0, 1.5, " ab"), (1.5, 2.5, " cdef"), (2.5, 3.0, " gh"),
    ]  # fmt: skip


def test_punctuation_is_told_by_its_full_stops() -> None:
    def of(*lines: str) -> Subtitles:
        return Subtitles(language="en", form="srt", cues=(Cue(start_s=0, end_s=1, lines=lines),))

    assert of("Chop the onions.", "Fry them").is_punctuated
    assert not of(*["then we are going to add the oil"] * 10).is_punctuated


@pytest.mark.parametrize(("letters_a_second", "usable"), [(15, True), (45, True), (75, False)])
def test_more_than_anybody_can_say_is_no_speech(
    tmp_path: Path, letters_a_second: int, usable: bool
) -> None:
    def cue(second: int, text: str) -> str:
        start, end = (f"{at // 60:02d}:{at % 60:02d}.000" for at in (second, second + 1))
        return f"{start} --> {end}\n{text}\n\n"

    quiet = [cue(second, f"{second:05d}") for second in range(0, 120, 10)]
    dense = [cue(second, f"{second}".rjust(letters_a_second, "a")) for second in range(120, 180)]
    video = beside(tmp_path, "WEBVTT\n\n" + "".join(quiet + dense), "soup.vtt")
    assert (read_side_car(video, None, until_s=600.0) is not None) is usable
