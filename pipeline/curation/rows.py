"""From a finished video to its rows in the six tables: a pure function of the video."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_jsonable_python

from pipeline.curation.ingest import Source
from pipeline.dataset.manifest import relative_uri
from pipeline.dataset.schema import TABLES
from pipeline.dataset.tables import Rows
from stages.records import FAILURES, Drop, Kind, NoMatch, Reason, Video


def rows_of(source: Source, video: Video, root: str = "") -> Rows:
    """Return all rows of one video, by table.

    Clips and actions of a rejected video become rejects.

    Args:
        root: what URIs in the rows are relative to; with the empty one they are absolute.
    """
    rows: Rows = {name: [] for name in TABLES}
    end = video.rejected
    status = "kept" if end is None else "failed" if end.reason in FAILURES else "rejected"
    clips = video.kept_clips if end is None else []
    actions = video.kept_actions if end is None else []
    kept = {clip.clip_id for clip in clips}
    matches = [pair for pair in video.matches if pair.clip_id in kept]
    rows["videos"].append(
        _video_row(source, video, root)
        | {
            "status": status,
            "num_clips": len(clips),
            "num_actions": len(actions),
            "num_matches": len(matches),
        }
    )
    rows["rejects"] = [_reject_row(video, drop, root) for drop in video.drops]
    if end is not None:
        detail = f"the file was rejected: {end.reason}"
        for kind, items in ((Kind.CLIP, video.kept_clips), (Kind.ACTION, video.kept_actions)):
            for item in items:
                drop = Drop(
                    kind=kind, stage=end.stage, reason=Reason.VIDEO_REJECTED, detail=detail,
                    item_id=item.clip_id if kind is Kind.CLIP else item.action_id,  # type: ignore[union-attr]
                    start_s=item.start_s, end_s=item.end_s,
                )  # fmt: skip
                rows["rejects"].append(_reject_row(video, drop, root))
        return rows
    captions = {caption.clip_id: caption for caption in video.captions}
    marks = {mark.clip_id: mark for mark in video.watermarks}
    relevance = {each.clip_id: each.score for each in video.relevance}
    for clip in clips:
        caption, mark = captions.get(clip.clip_id), marks.get(clip.clip_id)
        rows["clips"].append(
            to_jsonable_python(clip)
            | {
                "video_id": video.video_id,
                "video_uri": relative_uri(video.uri, root),
                "caption": caption.text if caption else None,
                "caption_model": caption.model if caption else None,
                "caption_frames_s": caption.frame_times_s if caption else [],
                "caption_prompt": caption.prompt if caption else None,
                "caption_input_tokens": caption.input_tokens if caption else None,
                "caption_output_tokens": caption.output_tokens if caption else None,
                "relevance": relevance.get(clip.clip_id),
                "watermark_score": mark.score if mark else None,
                "overlays": to_jsonable_python(mark.findings) if mark else [],
                "crop_box": mark.crop if mark else None,
                "screen_text": mark.screen_text if mark else [],
            }
        )
    matched = {pair.action_id for pair in matches}
    # A pair that is no row is one whose clip a later stage dropped.
    causes = {pair.action_id: NoMatch.CLIP_DROPPED for pair in video.matches}
    causes |= {each.item_id: each.cause for each in video.unmatched}
    rows["actions"] = [
        to_jsonable_python(action)
        | {
            "video_id": video.video_id,
            "matched": action.action_id in matched,
            "unmatched_because": None if action.action_id in matched else causes.get(action.action_id),
        }
        for action in actions
    ]
    rows["matches"] = [to_jsonable_python(pair) | {"video_id": video.video_id} for pair in matches]
    if video.narrative is not None:
        narrative = to_jsonable_python(video.narrative)
        rows["narratives"].append(narrative | {"video_id": video.video_id})
    return rows


def duplicate_row(copy: Source, original: Source, video: Video, root: str = "") -> dict[str, Any]:
    """Return the row of a file whose content was curated under another name."""
    return _video_row(copy, video, root) | {
        "status": "duplicate",
        "duplicate_of": relative_uri(original.uri, root),
        "num_clips": 0,
        "num_actions": 0,
        "num_matches": 0,
    }


def _video_row(source: Source, video: Video, root: str) -> dict[str, Any]:
    facts = to_jsonable_python(video.facts) if video.facts else {}
    return {
        **{name: facts.get(name) for name in TABLES["videos"].names},
        "has_audio": video.facts.has_audio if video.facts else None,
        "uri": relative_uri(source.uri, root),
        "video_id": video.video_id,
        "language": (video.transcript.language or None) if video.transcript else None,
        "shot_starts_s": [shot.start_s for shot in video.evidence.shots] if video.evidence else [],
        "title": video.narrative.title if video.narrative else None,
        "transcript_model": video.transcript.model if video.transcript else None,
        "relevance": next((each.score for each in video.relevance if each.clip_id is None), None),
    }


def _reject_row(video: Video, drop: Drop, root: str) -> dict[str, Any]:
    return {
        **to_jsonable_python(drop),
        "uri": relative_uri(video.uri, root),
        "video_id": video.video_id,
        "clip_id": drop.item_id if drop.kind is Kind.CLIP else None,
        "action_id": drop.item_id if drop.kind is Kind.ACTION else None,
    }
