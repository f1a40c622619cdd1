"""Some pictures of a video file, decoded after a first pass over it."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from queue import SimpleQueue

from av.container import InputContainer
from av.video.stream import VideoStream

from models.media.container import DAMAGE, decoded, picture_stream
from models.media.losses import AnyPacket
from models.media.pictures import Bounds, Frame, Timeline
from models.media.sections import InOrderError, Kept, OpenAgain, open_decoders
from models.media.sparse import NEAR_S, is_near


def read_again(
    open_again: OpenAgain,
    reducers: Sequence[Callable[[Frame], Kept]],
    wanted: Sequence[Sequence[float]],
    keys_s: Sequence[float],
    *,
    bounds: Bounds,
) -> Iterator[tuple[int, Kept]]:
    """Decode the pictures of some times and reduce them: (number of the stretch, what is kept), in order.

    Args:
        open_again: opens the file.
        reducers: one for each decoder, of which each has a thread.
        wanted: times of the pictures of each stretch; all in order.
        keys_s: times of the key frames, in order.

    Raises:
        InOrderError: the container cannot go to the place before a stretch.
    """
    if not wanted:
        return
    idle: SimpleQueue[tuple[InputContainer, Callable[[Frame], Kept]]] = SimpleQueue()
    with ExitStack() as stack:
        for decoder in zip(open_decoders(stack, open_again, len(reducers)), reducers, strict=True):
            idle.put(decoder)

        def read(group: list[int]) -> list[tuple[int, Kept]]:
            container, reduce = idle.get()
            try:
                return list(_read(container, reduce, group, wanted, keys_s, bounds))
            finally:
                idle.put((container, reduce))

        threads = stack.enter_context(ThreadPoolExecutor(len(reducers)))
        stack.callback(threads.shutdown, cancel_futures=True)
        waiting: deque[Future[list[tuple[int, Kept]]]] = deque()
        for group in _grouped(wanted, keys_s):
            waiting.append(threads.submit(read, group))
            if len(waiting) > len(reducers):
                yield from waiting.popleft().result()
        for future in waiting:
            yield from future.result()


def _read(
    container: InputContainer,
    reduce: Callable[[Frame], Kept],
    group: Sequence[int],
    wanted: Sequence[Sequence[float]],
    keys_s: Sequence[float],
    bounds: Bounds,
) -> Iterator[tuple[int, Kept]]:
    """Decode the pictures of the stretches of a group, from the key frame before them."""
    stream = picture_stream(container)
    assert stream is not None
    timeline = Timeline(container, bounds)
    times_s = [time_s for number in group for time_s in wanted[number]]
    key_s = keys_s[max(0, bisect_right(keys_s, times_s[0]) - 1)]
    try:
        container.seek(round((key_s + timeline.origin_s) / (stream.time_base or 1)), stream=stream)
    except DAMAGE as error:
        raise InOrderError("the container cannot seek") from error

    started = False
    for picture in decoded(container, stream, before=partial(_choose, stream, times_s, timeline.origin_s)):
        frame = timeline.place(picture)
        if frame is None:
            continue
        if not started and frame.time_s > times_s[0] + NEAR_S:
            raise InOrderError("the container went behind the place")
        started = True
        if frame.time_s > times_s[-1] + NEAR_S:
            break
        if is_near(times_s, frame.time_s):
            number = next(n for n in group if frame.time_s < wanted[n][-1] + NEAR_S)
            yield number, reduce(frame)


def _choose(stream: VideoStream, times_s: Sequence[float], origin_s: float, packet: AnyPacket) -> None:
    """Let the decoder skip pictures of other times."""
    time_s = float((packet.pts or 0) * (stream.time_base or 1)) - origin_s
    needed = packet.pts is None or is_near(times_s, time_s)
    stream.codec_context.skip_frame = "DEFAULT" if needed else "NONREF"


def _grouped(wanted: Sequence[Sequence[float]], keys_s: Sequence[float]) -> list[list[int]]:
    """Numbers of the stretches, those together between which there is no key frame."""
    groups: list[list[int]] = []
    for number, times_s in enumerate(wanted):
        before_s = wanted[number - 1][-1] if number else -math.inf
        if groups and bisect_right(keys_s, times_s[0]) == bisect_right(keys_s, before_s):
            groups[-1].append(number)
        else:
            groups.append([number])
    return groups
