"""Pictures of a video file, decoded by several decoders side by side.

A section of a file begins with a picture from which a decoder can start, so decoders of different sections
never wait for each other, as the threads of one decoder do. Each picture is reduced in the thread that
decoded it: what waits for its turn is small, and no picture is held.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from itertools import chain, pairwise
from queue import Empty, SimpleQueue
from typing import Generic, Self, TypeAlias, TypeVar

from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from models.media.container import DAMAGE, packets, picture_stream
from models.media.losses import AnyPacket, Losses
from models.media.pictures import Bounds, Frame, Timeline, placed, seconds
from models.media.sparse import Skipped, Skips
from models.media.units import IDR, length_bytes_of, unit_types

Kept = TypeVar("Kept")
Reduce: TypeAlias = Callable[[Frame, float], Kept]
"""Called with a picture and the time in seconds of the one before it, minus infinity for the first."""
OpenAgain: TypeAlias = Callable[[], AbstractContextManager[InputContainer]]
Needed: TypeAlias = Callable[[AnyPacket], bool]

MAX_DECODERS = 4
DECODERS_PX = 10_000_000
"""Bounds on the decoders of a file, and on the pixels of a picture of all of them: each holds several."""
MIN_PACKETS = 24
"""Packets of a section: to end one costs about as much as a picture."""
MAX_WAITING = 2000
MAX_WAITING_BYTES = 32_000_000
"""Packets that may be read ahead, and their bytes: enough for a section of each decoder as a rule."""


class InOrderError(Exception):
    """The file is damaged, or cannot be sought in: its pictures must be decoded in order, all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduced(Generic[Kept]):
    """A decoded picture's times, see :class:`Frame`, and what is kept of it.

    Attributes:
        pts: presentation time in the stream's units.
    """

    pts: int
    time_s: float
    duration_s: float
    kept: Kept


def decoders_for(pixels: int) -> int:
    """Return how many decoders should work on a file with pictures of so many pixels."""
    return max(1, min(len(os.sched_getaffinity(0)), MAX_DECODERS, DECODERS_PX // max(1, pixels)))


def side_by_side(
    container: InputContainer,
    open_again: OpenAgain,
    reducers: Sequence[Reduce[Kept]],
    needed: Needed,
    *,
    bounds: Bounds,
    losses: Losses,
) -> Generator[Reduced[Kept] | Skipped, None, None]:
    """Decode pictures and reduce them, in order of presentation, with a mark for each skipped one.

    Args:
        open_again: opens the same file once more, for a decoder.
        reducers: one for each decoder, in whose thread it is called.
        needed: whether the picture of a packet must be decoded even if no other refers to it; called in the
            order of the file, and at first only after everything before has been decoded and yielded, up to
            the first picture.
        losses: records the key frames.

    Close it where it may be left early: its threads end then.

    Raises:
        MediaError: the file exceeds ``bounds``.
        InOrderError: see there; :func:`frames` decodes it.
    """
    stream = picture_stream(container)
    if stream is None:
        return
    if container.format.name == "avi":
        raise InOrderError("AVI stores no presentation times")
    timeline = Timeline(container, bounds)
    skips = Skips(timeline.origin_s)
    with _Decoders(open_again, reducers, timeline.origin_s) as decoders:
        started = False
        for packet, following in pairwise(chain(packets(container, stream, losses), (None,))):
            assert packet is not None
            losses.sent(packet)
            if losses.damaged or packet.pts is None or packet.has_sidedata("new_extradata"):
                raise InOrderError("pictures are lost, have no times, or are coded in another way")
            wanted = needed(packet)
            if not wanted:
                skips.sent(packet)
            decoders.send(packet, wanted, begins=begins_section(stream, packet, following))
            for picture in decoders.ready(wait=not started):
                yield from _in_order(picture, timeline, skips, started=started)
                started = True
        for picture in decoders.rest():
            yield from _in_order(picture, timeline, skips, started=started)
            started = True
    if started:
        yield from skips.before(math.inf)


def _in_order(
    picture: Reduced[Kept], timeline: Timeline, skips: Skips, *, started: bool
) -> Iterator[Reduced[Kept] | Skipped]:
    """Yield the skipped pictures before one, and it.

    Args:
        started: false for the first: before it there is none that skipped ones could refer to.
    """
    if not timeline.follows(picture.pts, picture.time_s):
        raise InOrderError("pictures are out of order")
    skipped = list(skips.before(picture.pts))
    if started:
        yield from skipped
    yield picture


def begins_section(stream: VideoStream, packet: AnyPacket, following: AnyPacket | None) -> bool:
    """Return whether a decoder can start with a packet, and no later one refers to what is before it.

    Args:
        following: the next packet of the stream.
    """
    if not packet.is_keyframe or packet.pts is None:
        return False
    # Pictures that are shown before a key frame and sent after it refer to what is before it, too.
    if following is not None and following.pts is not None and following.pts < packet.pts:
        return False
    context = stream.codec_context
    if context.name != "h264":
        return True
    # After a key frame of another kind, pictures may refer to what is before it.
    return IDR in unit_types(bytes(packet), length_bytes_of(context.extradata or b""))


@dataclass(frozen=True, slots=True)
class _Made(Generic[Kept]):
    """Pictures that came out after a packet of some bytes; of none after the last."""

    pictures: list[Reduced[Kept]]
    size: int | None


class _Section(Generic[Kept]):
    """Packets for one decoder, and what it made of them.

    Attributes:
        before_s: time of the last picture before the section.
        sent: packets and whether their pictures are needed; None after the last.
        made: what came out after each packet and after the last one, or an error.
    """

    def __init__(self, before_s: float) -> None:
        self.before_s = before_s
        self.size = 0
        self.sent: SimpleQueue[tuple[AnyPacket, bool] | None] = SimpleQueue()
        self.made: SimpleQueue[_Made[Kept] | BaseException] = SimpleQueue()


def open_decoders(stack: ExitStack, open_again: OpenAgain, number: int) -> Iterator[InputContainer]:
    """Open a file once for each decoder. One alone works with several threads, of several each has one."""
    for _ in range(number):
        container = stack.enter_context(open_again())
        stream = picture_stream(container)
        assert stream is not None
        if number > 1:
            stream.thread_type, stream.codec_context.thread_count = "NONE", 1
        else:
            stream.thread_type = "AUTO"
        yield container


class _Decoders(Generic[Kept]):
    """Decoders of sections, each in a thread."""

    def __init__(self, open_again: OpenAgain, reducers: Sequence[Reduce[Kept]], origin_s: float) -> None:
        self._open_again, self._reducers, self._origin_s = open_again, reducers, origin_s
        self._idle: SimpleQueue[tuple[VideoStream, Reduce[Kept]]] = SimpleQueue()
        self._sections: deque[_Section[Kept]] = deque()
        self._packets = self._bytes = 0
        self._latest_s = -math.inf
        self._stopped = False
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for container, reduce in zip(
                open_decoders(stack, self._open_again, len(self._reducers)), self._reducers, strict=True
            ):
                stream = picture_stream(container)
                assert stream is not None
                self._idle.put((stream, reduce))
            self._threads = stack.enter_context(ThreadPoolExecutor(len(self._reducers)))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self._end()
        self._threads.shutdown(cancel_futures=True)
        self._stack.close()
        _trim()

    def send(self, packet: AnyPacket, needed: bool, *, begins: bool) -> None:
        """Send the next packet, to another decoder if a section begins and the last one is long enough."""
        if not self._sections or (begins and self._sections[-1].size >= MIN_PACKETS):
            self._end()
            self._sections.append(_Section(self._latest_s))
            self._threads.submit(self._decode, self._sections[-1])
        section = self._sections[-1]
        section.size += 1
        section.sent.put((packet, needed))
        self._packets, self._bytes = self._packets + 1, self._bytes + packet.size
        assert packet.pts is not None and packet.time_base is not None
        self._latest_s = max(self._latest_s, seconds(packet.pts, packet.time_base, self._origin_s))

    def _end(self) -> None:
        if self._sections:
            self._sections[-1].sent.put(None)

    def ready(self, *, wait: bool) -> Iterator[Reduced[Kept]]:
        """Yield the pictures that are decoded, in order; wait while too many packets lie before them.

        Args:
            wait: whether to wait for what the next packet holds.
        """
        while self._sections:
            full = self._packets > MAX_WAITING or self._bytes > MAX_WAITING_BYTES
            try:
                made = self._sections[0].made.get(block=wait or full)
            except Empty:
                return
            wait = False
            yield from self._taken(made)

    def rest(self) -> Iterator[Reduced[Kept]]:
        """Yield the pictures of all packets that were sent, after the last one."""
        self._end()
        while self._sections:
            yield from self._taken(self._sections[0].made.get())

    def _taken(self, made: _Made[Kept] | BaseException) -> list[Reduced[Kept]]:
        if isinstance(made, BaseException):
            raise made
        if made.size is None:
            self._sections.popleft()
        else:
            self._packets, self._bytes = self._packets - 1, self._bytes - made.size
        return made.pictures

    def _decode(self, section: _Section[Kept]) -> None:
        """Decode a section; in a thread."""
        stream, reduce = self._idle.get()
        context = stream.codec_context
        try:
            while (sent := section.sent.get()) is not None and not self._stopped:
                packet, needed = sent
                context.skip_frame = "DEFAULT" if needed else "NONREF"
                section.made.put(
                    _Made(self._reduced(section, _decoded(stream, packet), reduce), packet.size)
                )
            last = self._reduced(section, _decoded(stream, None), reduce)
            context.flush_buffers()
            section.made.put(_Made(last, None))
        except BaseException as error:
            section.made.put(error)
        finally:
            self._idle.put((stream, reduce))

    def _reduced(
        self, section: _Section[Kept], pictures: list[VideoFrame], reduce: Reduce[Kept]
    ) -> list[Reduced[Kept]]:
        found = []
        for picture in pictures:
            if picture.pts is None or picture.time_base is None or picture.is_corrupt:
                raise InOrderError("a picture is incomplete, or has no time")
            frame = placed(picture, picture.pts, picture.time_base, self._origin_s)
            kept = reduce(frame, section.before_s)
            section.before_s = frame.time_s
            found.append(
                Reduced(pts=picture.pts, time_s=frame.time_s, duration_s=frame.duration_s, kept=kept)
            )
        return found


def _trim() -> None:
    """Give what the decoders' threads have freed back to the system, where the C library can (glibc)."""
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _decoded(stream: VideoStream, packet: AnyPacket | None) -> list[VideoFrame]:
    """Return the pictures that come out after a packet, or after the last one."""
    if packet is None:
        # Unlike None, an empty packet gives the frames their time base.
        packet = Packet()
        packet.time_base = stream.time_base or packet.time_base
    try:
        return stream.codec_context.decode(packet)
    except DAMAGE as error:
        raise InOrderError("a picture is damaged") from error
