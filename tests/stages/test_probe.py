"""A file is judged by what it holds, and every bad one gets its own reason."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from examples.drawing import Animation, Image, plain
from examples.media import Scene, write_audio, write_video
from models.errors import MediaError
from models.media import frames, open_media
from pipeline.curation.chain import build_stages
from pipeline.curation.config import Config
from stages.base import BadInputError
from stages.probe import Probe
from stages.reasons import Reason
from stages.records import Facts, Video
from stages.view import path_of
from tests.support.odd_files import turned


def probed(path: Path, **rules: object) -> Video:
    stages = build_stages(Config.model_validate({"probe": rules}))
    probe = next(stage for stage in stages if isinstance(stage, Probe))
    return probe(Video(uri=path.absolute().as_uri(), video_id="0" * 16, content_id="0" * 64))


def outcome(path: Path, **rules: object) -> tuple[str, str]:
    """(reason, detail) by either of the two ways in which a file is turned away."""
    try:
        video = probed(path, **rules)
    except BadInputError as error:
        return error.reason, error.detail
    except MediaError as error:
        return Reason(error.problem), error.detail
    assert video.rejected is not None, f"{path.name} was accepted: {video.facts}"
    return video.rejected.reason, video.rejected.detail


def facts(path: Path, **rules: object) -> Facts:
    video = probed(path, **rules)
    assert video.rejected is None and video.facts is not None
    return video.facts


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds with sound, all of which the default rules accept."""
    path = tmp_path_factory.mktemp("probe") / "good.mp4"
    write_video(path, [Scene(duration_s=6)], width_px=96, height_px=64)
    return path


def lossless(path: Path) -> None:
    """FFV1: a video, but of a codec that is not on the list."""
    with av.open(path, "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=1)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for _ in range(6):
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 96, 3), np.uint8))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def song_with_cover(path: Path) -> None:
    """Sound, and a picture of the album in a stream of its own."""
    with av.open(path, "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=22050)
        sound.codec_context.layout = "mono"
        cover = container.add_stream("mjpeg")
        cover.width, cover.height, cover.pix_fmt = 128, 128, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.full((128, 128, 3), 90, np.uint8))
        picture.pts = 0
        container.mux([*cover.encode(picture), *cover.encode()])
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 8 * 22050), np.float32), "fltp", "mono")
        silence.sample_rate, silence.pts = 22050, 0
        container.mux([*sound.encode(silence), *sound.encode(None)])


Make = Callable[[Path, Path], object]
BAD: dict[str, tuple[Make, Reason, str]] = {
    "zero bytes": (lambda path, _: path.touch(), Reason.EMPTY_FILE, "no bytes"),
    "text": (lambda path, _: path.write_text("not a video\n" * 400), Reason.NOT_A_VIDEO, "Invalid data"),
    "random bytes": (
        lambda path, _: path.write_bytes(np.random.default_rng(0).bytes(100_000)),
        Reason.NOT_A_VIDEO,
        "Invalid data",
    ),
    "cut before the index": (
        lambda path, good: path.write_bytes(good.read_bytes().partition(b"moov")[0]),
        Reason.CORRUPT,
        "no index (moov)",
    ),
    "cut after a few bytes": (
        lambda path, good: path.write_bytes(good.read_bytes()[:12]),
        Reason.CORRUPT,
        "no index (moov)",
    ),
    "audio only": (
        lambda path, _: write_audio(path, [Scene(duration_s=6)]),
        Reason.NO_VIDEO_STREAM,
        "without pictures",
    ),
    "audio with a cover": (
        lambda path, _: song_with_cover(path),
        Reason.NO_VIDEO_STREAM,
        "without pictures",
    ),
    "no audio": (
        lambda path, _: write_video(path, [Scene(duration_s=6)], width_px=96, height_px=64, audio=False),
        Reason.NO_AUDIO,
        "transcribe.require_speech",
    ),
    "one frame": (
        lambda path, _: write_video(path, [Scene(duration_s=1 / 15)], width_px=96, height_px=64),
        Reason.TOO_SHORT,
        "0.07 s; probe.min_duration_s is 5",
    ),
    "tiny picture": (
        lambda path, _: write_video(path, [Scene(duration_s=6)], width_px=96, height_px=48),
        Reason.TOO_SMALL,
        "48 px; probe.min_side_px is 64",
    ),
    "codec not on the list": (lambda path, _: lossless(path), Reason.NOT_A_VIDEO, "ffv1"),
    "dangling link": (
        lambda path, good: path.symlink_to(good.parent / "gone.mp4"),
        Reason.UNREADABLE,
        "No such file",
    ),
    "folder": (lambda path, _: path.mkdir(), Reason.UNREADABLE, "not a regular file"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_gets_its_reason(name: str, tmp_path: Path, good: Path) -> None:
    make, reason, words = BAD[name]
    path = tmp_path / "film.mp4"
    make(path, good)
    told, detail = outcome(path)
    assert told == reason
    assert words in detail


@pytest.mark.parametrize(
    ("rules", "reason", "detail"),
    [
        ({"min_duration_s": 6.01}, Reason.TOO_SHORT, "6.00 s; probe.min_duration_s is 6.01"),
        ({"max_duration_s": 5.99}, Reason.TOO_LONG, "6 s; probe.max_duration_s is 5.99"),
        ({"min_side_px": 65}, Reason.TOO_SMALL, "64 px; probe.min_side_px is 65"),
        ({"min_kbps": 1e6}, Reason.TOO_SMALL, "; probe.min_kbps is 1e+06"),
        ({"max_pixels": 6143}, Reason.TOO_LARGE, "96 x 64 px; probe.max_pixels is 6143"),
    ],
)
def test_bounds_can_be_moved(rules: dict[str, float], reason: Reason, detail: str, good: Path) -> None:
    found, words = outcome(good, **rules)
    assert found == reason and words.endswith(detail)
    assert facts(good, min_duration_s=6.0, max_duration_s=6.0, min_side_px=64).duration_s == 6.0


class _Witness(HTTPServer):
    """Notes whoever knocks."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Doorkeeper)
        self.asked: list[str] = []


class _Doorkeeper(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, _Witness)
        self.server.asked.append(self.path)
        self.send_error(404)


@pytest.fixture
def witness() -> Iterator[_Witness]:
    with _Witness() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:6,\n{target}\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{target}\n",
        "ffconcat version 1.0\nfile '{target}'\n",
        "v=0\no=- 0 0 IN IP4 {target}\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5000 RTP/AVP 96\n",
        '<?xml version="1.0"?><MPD type="static"><Period duration="PT6S"><AdaptationSet><Representation>'
        "<BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>",
    ],
    ids=["hls", "hls-master", "ffconcat", "sdp", "dash"],
)
@pytest.mark.parametrize("remote", [False, True], ids=["file", "url"])
def test_a_playlist_opens_nothing(
    text: str, remote: bool, tmp_path: Path, good: Path, witness: _Witness
) -> None:
    path = tmp_path / "film.mp4"
    target = f"http://127.0.0.1:{witness.server_port}/secret.mp4" if remote else str(good)
    path.write_text(text.format(target=target))
    assert outcome(path)[0] is Reason.NOT_A_VIDEO
    assert witness.asked == []


@pytest.mark.parametrize("suffix", [".txt", ".m3u8", ".jpg", ""])
def test_the_name_of_a_file_plays_no_part(suffix: str, tmp_path: Path, good: Path) -> None:
    path = tmp_path / f"film{suffix}"
    path.write_bytes(good.read_bytes())
    assert facts(path) == facts(good)


@pytest.mark.parametrize("name", ["100% soup?.mp4", "#1 Küche.mp4", "a\udcff\n b.mp4", "x" * 250 + ".mp4"])
def test_any_name_that_the_file_system_takes_is_found_again(name: str, tmp_path: Path, good: Path) -> None:
    path = tmp_path / name
    try:
        path.write_bytes(good.read_bytes())
    except (OSError, UnicodeError):
        pytest.skip("the file system refuses the name")
    assert path_of(path.as_uri()) == path
    assert facts(path).duration_s == 6.0


def test_the_facts_of_a_good_file(tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    write_video(path, [Scene(duration_s=8)], width_px=160, height_px=96, fps=25)
    found = facts(path)
    # Matroska tells no length of a stream, so it is that of the longer one: the sound's padding.
    assert found.duration_s == pytest.approx(8.0, abs=0.1)
    assert found.kbps == pytest.approx(path.stat().st_size * 8 / 1000 / found.duration_s, rel=0.02)
    assert found == Facts(
        container="matroska,webm", video_codec="h264", audio_codec="aac", duration_s=found.duration_s,
        width_px=160, height_px=96, fps=25.0, rotation_deg=0, title="", kbps=found.kbps,
    )  # fmt: skip


def bright_corner(width_px: int, height_px: int) -> Animation:
    """White in the upper left quarter, black elsewhere."""
    image: Image = np.zeros((height_px, width_px, 3), np.uint8)
    image[: height_px // 2, : width_px // 2] = 255
    return lambda time_s: image


@pytest.mark.parametrize(
    ("clockwise_deg", "size", "corner"),
    [(90, (64, 96), (0, 1)), (180, (96, 64), (1, 1)), (270, (64, 96), (1, 0))],
)
def test_a_turned_video_has_the_size_and_the_picture_that_a_player_shows(
    clockwise_deg: int, size: tuple[int, int], corner: tuple[int, int], tmp_path: Path
) -> None:
    path = tmp_path / "upright.mp4"
    write_video(path, [Scene(duration_s=6, picture=bright_corner)], width_px=96, height_px=64, fps=5)
    turned(path, clockwise_deg)
    found = facts(path)
    assert (found.width_px, found.height_px, found.rotation_deg) == (*size, clockwise_deg)
    with open_media(path) as container:
        image = next(iter(frames(container))).bgr(*size)
    assert image.shape == (size[1], size[0], 3)
    quarters = image.reshape(2, size[1] // 2, 2, size[0] // 2, 3).mean(axis=(1, 3, 4))
    assert np.unravel_index(quarters.argmax(), (2, 2)) == corner


def test_the_title_that_a_file_gives_itself(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    with av.open(path, "w") as container:
        container.metadata["title"] = "  How to boil an egg  "
        stream = container.add_stream("libx264", rate=1)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for image in [plain((9, 9, 9))(96, 64)(0.0)] * 6:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        container.mux(stream.encode())
    told, _ = outcome(path)
    assert told is Reason.NO_AUDIO
    without_speech = Config.model_validate({"transcribe": {"require_speech": False}})
    probe = next(stage for stage in build_stages(without_speech) if isinstance(stage, Probe))
    video = probe(Video(uri=path.as_uri(), video_id="0" * 16, content_id="0" * 64))
    assert video.rejected is None and video.facts is not None
    assert video.facts.title == "How to boil an egg"
    assert not video.facts.has_audio
