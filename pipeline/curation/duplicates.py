"""Drop near-duplicate clips: a decision over all videos, between the phases that run video by video."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stages.clip import drop_clip
from stages.duplicates import FingerprintClips, hashes_of, near_duplicates, thumbs_of
from stages.reasons import Reason
from stages.records import Clip, Drop, Fingerprint, Video


def without_duplicates(videos: Sequence[Video]) -> list[Video]:
    """Return the videos, by their ids, with all near-duplicate clips but one dropped.

    Of several like clips that of the largest picture stays, then that of the first id. A video of which no
    clip is left is rejected.
    """
    videos = sorted(videos, key=lambda video: video.video_id)
    clips: list[tuple[Video, Clip, Fingerprint]] = []
    for video in videos:
        if video.rejected is None:
            by_clip = {found.clip_id: found for found in video.fingerprints}
            clips += [(video, clip, by_clip[clip.clip_id]) for clip in video.kept_clips]
    if not clips:
        return list(videos)

    def thumbs(indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        return np.stack([thumbs_of(clips[int(index)][2]) for index in indices])

    hashes = np.stack([hashes_of(found) for _, _, found in clips])
    sizes = [video.facts.width_px * video.facts.height_px if video.facts else 0 for video, _, _ in clips]
    drops: dict[str, list[Drop]] = defaultdict(list)
    for one in near_duplicates(hashes, thumbs, np.array(sizes, np.float64)):
        video, clip, _ = clips[one.index]
        stays, original, _ = clips[one.stays]
        detail = f"copy of {original.clip_id} in {stays.uri}; {one.bits:.1f} of 64 bits differ"
        drops[video.video_id].append(drop_clip(clip, FingerprintClips.name, Reason.DUPLICATE_CLIP, detail))
    return [_dropped(video, drops[video.video_id]) for video in videos]


def _dropped(video: Video, drops: Sequence[Drop]) -> Video:
    video = video.drop(*drops)
    if drops and not video.kept_clips:
        return video.reject(FingerprintClips.name, Reason.DUPLICATE_CLIP, drops[0].detail)
    return video
