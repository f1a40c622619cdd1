"""Records of whole videos, as they come out of the chain."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace

from stages.reasons import Kind, Reason
from stages.records import (
    Action,
    Caption,
    Drop,
    Evidence,
    Facts,
    Interval,
    Match,
    Narrative,
    Sentence,
    Step,
    Transcript,
    Video,
    Watermark,
)
from tests.support.records import action, clip, evidence, file_facts, found

DETAIL = "score 0.93; watermark.threshold is 0.5"
"""Reason of the clip that :func:`fried_onions` loses to a watermark."""


def full_video() -> Video:
    """Return a video with every field filled, with floats that have no short decimal form."""
    return Video(
        uri="file:///videos/K%C3%BCche%20%F0%9F%8D%B2.mp4",
        video_id="0123456789abcdef",
        content_id="0123456789abcdef" * 4,
        facts=Facts(
            container="mov,mp4", video_codec="h264", audio_codec=None, duration_s=12.345678,
            width_px=640, height_px=360, fps=30000 / 1001, rotation_deg=90, title="Größe 🍲\n2",
        ),
        evidence=Evidence(
            shots=[Interval(start_s=0.0, end_s=0.1 + 0.2), Interval(start_s=0.1 + 0.2, end_s=12.3)],
            frame_times_s=[0.0, 1 / 3], sharpness=[0.1, 0.2], exposure=[0.3, 0.4], motion=[0.0, 1e-5],
            num_frames=2,
        ),
        transcript=Transcript(
            language="en", model="base",
            sentences=[Sentence(start_s=0.5, end_s=2.0, text="Chop it.", confidence=0.9)],
        ),
        clips=[clip(0, 0.0, 6.0), clip(1, 6.0, 12.0)],
        watermarks=[Watermark(clip_id="v-c0000", findings=[found(0.7, "TV")], screen_text=["TV"]),
                    Watermark(clip_id="v-c0001", findings=[], screen_text=[])],
        actions=[action(0, 0.5, 2.0), action(1, 6.5, 8.0)],
        matches=[Match(clip_id="v-c0000", action_id="v-a0000", iou=0.25, start_diff_s=0.5, rule="start")],
        captions=[Caption(clip_id="v-c0000", text="A leek.", model="m", frame_times_s=[0.0])],
        narrative=Narrative(title="How to make soup?", steps=[
            Step(step_index=0, clip_id="v-c0000", action_id=None, start_s=0.0, end_s=6.0, action="",
                 caption="A leek."),
        ]),
        drops=[Drop(kind=Kind.CLIP, stage="clip", reason=Reason.STILL, detail="d", item_id="v-c0001",
                    start_s=6.0, end_s=12.0)],
    )  # fmt: skip


def random_video(seed: int, end: Reason | None = None) -> Video:
    """Return a video with random clips and actions; some are dropped, a clip also after it was matched."""
    dice = random.Random(seed)
    content = f"{dice.getrandbits(256):064x}"
    name = content[:4]
    clips = [
        replace(clip(at, at * 6.0, at * 6.0 + 5.5), clip_id=f"{name}-c{at}", sharpness=dice.random())
        for at in range(dice.randrange(5))
    ]
    actions = [
        Action(action_id=f"{name}-a{at}", start_s=at * 6.0, end_s=at * 6.0 + 3, text="Stir.",
               asr_text="stir", confidence=0.9, source=dice.choice(("llm", "asr")))
        for at in range(dice.randrange(5))
    ]  # fmt: skip
    drops = [
        Drop(kind=kind, stage="clip", reason=reason, detail="for a test", item_id=item, start_s=0, end_s=1)
        for kind, reason, items in (
            (Kind.CLIP, Reason.BLURRED, [each.clip_id for each in clips]),
            (Kind.ACTION, Reason.NOT_AN_ACTION, [each.action_id for each in actions]),
        )
        for item in items
        if dice.random() < 0.4
    ]
    video = Video(
        uri=f"file:///{name}.mp4",
        video_id=content[:16],
        content_id=content,
        facts=file_facts(30.0, width_px=320, height_px=240, fps=15.0),
        evidence=evidence(0, 12, 30, num_frames=450),
        transcript=Transcript(language="en", sentences=[], model="base"),
        clips=clips,
        actions=actions,
        drops=drops,
    )  # fmt: skip
    matches = [
        Match(clip_id=clip.clip_id, action_id=action.action_id, iou=0.5, start_diff_s=0.0, rule="iou")
        for clip, action in zip(video.clips, video.kept_actions, strict=False)
    ]
    steps = [
        Step(step_index=at, clip_id=clip.clip_id, action_id=None, start_s=clip.start_s, end_s=clip.end_s,
             action="", caption="A pot.")
        for at, clip in enumerate(video.kept_clips)
    ]  # fmt: skip
    video = replace(
        video,
        matches=matches,
        narrative=Narrative(title="How to make soup?", steps=steps),
        captions=[
            Caption(clip_id=clip.clip_id, text="A pot.", model="m", frame_times_s=[clip.start_s])
            for clip in video.kept_clips[:1]
        ],
        watermarks=[
            Watermark(clip_id=clip.clip_id, findings=[found(0.25, "SOUP")], screen_text=["SOUP"])
            for clip in video.kept_clips[:1]
        ],
    )
    return video if end is None else video.reject("narrate", end, "for a test")


def fried_onions(uri: str, *, caption: str = "A knife cuts an onion.", length_s: float = 40.0) -> Video:
    """Return a kept video of four clips: two kept, one under a watermark, one without a match."""
    content_id = hashlib.sha256(uri.encode()).hexdigest()
    video_id = content_id[:16]
    clips = [
        replace(
            clip(index, index * 10.0, index * 10.0 + 10), clip_id=f"{video_id}-c{index}",
            sharpness=0.71, exposure=0.42, motion=0.03,
        )
        for index in range(4)
    ]  # fmt: skip
    actions = [
        Action(
            action_id=f"{video_id}-a{index}", start_s=start_s, end_s=start_s + 8, text=text,
            asr_text=text, confidence=0.9, source="llm",
        )
        for index, (start_s, text) in enumerate(
            [(1.0, "Cut the onion."), (11.0, "Fry it."), (22.0, "Wait.")]
        )
    ]  # fmt: skip
    drops = [
        Drop(
            kind=kind, stage=stage, reason=reason, detail=detail, item_id=item_id,
            start_s=start_s, end_s=start_s + 10,
        )
        for kind, stage, reason, detail, item_id, start_s in [
            (Kind.CLIP, "watermark", Reason.WATERMARK, DETAIL, clips[2].clip_id, 20.0),
            (Kind.CLIP, "match", Reason.NO_MATCH, "nearest is 9 s away", clips[3].clip_id, 30.0),
            (Kind.ACTION, "refine", Reason.NOT_AN_ACTION, "hello there", f"{video_id}-a9", 30.0),
        ]
    ]  # fmt: skip
    return Video(
        uri=uri,
        video_id=video_id,
        content_id=content_id,
        facts=file_facts(length_s),
        evidence=evidence(0, 10, 20, 30, 40, num_frames=1000),
        clips=clips,
        actions=actions,
        matches=[
            Match(
                clip_id=clip.clip_id, action_id=action.action_id,
                iou=0.7, start_diff_s=1.0, rule="start",
            )
            for clip, action in zip(clips[:2], actions[:2], strict=True)
        ],
        watermarks=[
            Watermark(clip_id=clip.clip_id, findings=[found(0.17)], screen_text=[])
            for clip in clips
        ],
        captions=[
            Caption(clip_id=clip.clip_id, text=caption, model="tiny-captioner", frame_times_s=[])
            for clip in clips[:2]
        ],
        narrative=Narrative(title="How to fry onions?", steps=[]),
        drops=drops,
    )  # fmt: skip
