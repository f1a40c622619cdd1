"""From a finished video to its rows in the six tables: a pure function of the video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from typing import Any

from msgspec import to_builtins

from pipeline.curation.ingest import Source
from pipeline.dataset.manifest import relative_uri
from pipeline.dataset.schema import TABLES
from pipeline.dataset.tables import Row, Rows
from stages.reasons import FAILURES, Kind, NoMatch, Reason
from stages.records import Action, Clip, Drop, Video


def rows_of(source: Source, video: Video, root: str = "") -> Rows:
    """Return all rows of one video, by table.

    Clips and actions of a rejected video become rejects.

    Args:
        root: what URIs in the rows are relative to; with the empty one they are absolute.
    """
    rows: Rows = {name: [] for name in TABLES}
    end = video.rejected
    rows["rejects"] = [_reject_row(video, drop, root) for drop in video.drops]
    if end is not None:
        rows["rejects"] += [_reject_row(video, drop, root) for drop in _dragged_along(video, end)]
        status = "failed" if end.reason in FAILURES else "rejected"
        rows["videos"] = [_video_row(source, video, root) | _counts(status)]
        return rows
    clips, actions = video.kept_clips, video.kept_actions
    kept = {clip.clip_id for clip in clips}
    matches = [pair for pair in video.matches if pair.clip_id in kept]
    counts = _counts("kept", len(clips), len(actions), len(matches))
    rows["videos"] = [_video_row(source, video, root) | counts]
    rows["clips"] = _clip_rows(video, clips, root)
    rows["actions"] = _action_rows(video, actions, {pair.action_id for pair in matches})
    rows["matches"] = [pair | {"video_id": video.video_id} for pair in to_builtins(matches)]
    if video.narrative is not None:
        rows["narratives"] = [to_builtins(video.narrative) | {"video_id": video.video_id}]
    return rows


def _counts(status: str, clips: int = 0, actions: int = 0, matches: int = 0) -> dict[str, Any]:
    return {"status": status, "num_clips": clips, "num_actions": actions, "num_matches": matches}


def _dragged_along(video: Video, end: Drop) -> Iterator[Drop]:
    """Yield drops of the clips and actions that were kept when the whole video was rejected."""
    detail = f"the file was rejected: {end.reason}"
    clips = ((Kind.CLIP, clip.clip_id, clip) for clip in video.kept_clips)
    actions = ((Kind.ACTION, action.action_id, action) for action in video.kept_actions)
    for kind, item_id, item in (*clips, *actions):
        yield Drop(
            kind=kind, stage=end.stage, reason=Reason.VIDEO_REJECTED, detail=detail,
            item_id=item_id, start_s=item.start_s, end_s=item.end_s,
        )  # fmt: skip


def _clip_rows(video: Video, clips: Sequence[Clip], root: str) -> list[Row]:
    captions = {caption.clip_id: caption for caption in video.captions}
    marks = {mark.clip_id: mark for mark in video.watermarks}
    relevance = {each.clip_id: each.score for each in video.relevance}
    uri = relative_uri(video.uri, root)
    rows: list[Row] = []
    for clip, row in zip(clips, to_builtins(clips), strict=True):
        caption, mark = captions.get(clip.clip_id), marks.get(clip.clip_id)
        rows.append(
            row
            | {
                "video_id": video.video_id,
                "video_uri": uri,
                "caption": caption.text if caption else None,
                "caption_model": caption.model if caption else None,
                "caption_frames_s": caption.frame_times_s if caption else [],
                "caption_prompt": caption.prompt if caption else None,
                "caption_input_tokens": caption.input_tokens if caption else None,
                "caption_output_tokens": caption.output_tokens if caption else None,
                "relevance": relevance.get(clip.clip_id),
                "watermark_score": mark.score if mark else None,
                "overlays": to_builtins(mark.findings) if mark else [],
                "crop_box": mark.crop if mark else None,
                "screen_text": mark.screen_text if mark else [],
            }
        )
    return rows


def _action_rows(video: Video, actions: Sequence[Action], matched: Set[str]) -> list[Row]:
    # A pair that is no row is one whose clip a later stage dropped.
    causes = {pair.action_id: NoMatch.CLIP_DROPPED for pair in video.matches}
    causes |= {each.item_id: each.cause for each in video.unmatched}
    return [
        row
        | {
            "video_id": video.video_id,
            "matched": action.action_id in matched,
            "unmatched_because": None if action.action_id in matched else causes.get(action.action_id),
        }
        for action, row in zip(actions, to_builtins(actions), strict=True)
    ]


def duplicate_row(copy: Source, original: Source, video: Video, root: str = "") -> dict[str, Any]:
    """Return the row of a file whose content was curated under another name."""
    return _video_row(copy, video, root) | {
        **_counts("duplicate"),
        "duplicate_of": relative_uri(original.uri, root),
    }


def _video_row(source: Source, video: Video, root: str) -> dict[str, Any]:
    facts = to_builtins(video.facts) if video.facts else {}
    return {
        **{name: facts.get(name) for name in TABLES["videos"].names},
        "has_audio": video.facts.has_audio if video.facts else None,
        "uri": relative_uri(source.uri, root),
        "video_id": video.video_id,
        "language": (video.transcript.language or None) if video.transcript else None,
        "shot_starts_s": [shot.start_s for shot in video.evidence.shots] if video.evidence else [],
        "picture_box": video.evidence.picture_box if video.evidence else None,
        "title": video.narrative.title if video.narrative else None,
        "transcript_model": video.transcript.model if video.transcript else None,
        "relevance": next((each.score for each in video.relevance if each.clip_id is None), None),
    }


def _reject_row(video: Video, drop: Drop, root: str) -> dict[str, Any]:
    return {
        **to_builtins(drop),
        "uri": relative_uri(video.uri, root),
        "video_id": video.video_id,
        "clip_id": drop.item_id if drop.kind is Kind.CLIP else None,
        "action_id": drop.item_id if drop.kind is Kind.ACTION else None,
    }
