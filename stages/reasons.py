"""Closed sets of labels: kinds of dropped items, and reasons for dropping or not matching something."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """Kinds of dropped items."""

    FILE = "file"
    CLIP = "clip"
    ACTION = "action"


class NoMatch(StrEnum):
    """Reasons why an action or a clip has no partner."""

    NOTHING_NEAR = "nothing_near"
    TOO_FAR = "too_far"
    ENDS_EARLY = "ends_early"
    OVERLAP_TOO_SMALL = "overlap_too_small"
    TAKEN = "taken"
    CLIP_DROPPED = "clip_dropped"


class Reason(StrEnum):
    """Reasons for dropping something. The set is closed: metrics and reports use it as a label."""

    UNREADABLE = "unreadable"
    CHANGED = "changed"
    EMPTY_FILE = "empty_file"
    NOT_A_VIDEO = "not_a_video"
    CORRUPT = "corrupt"
    TRUNCATED = "truncated"
    NO_VIDEO_STREAM = "no_video_stream"
    NO_AUDIO = "no_audio"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    TOO_SMALL = "too_small"
    TOO_LARGE = "too_large"
    BAD_TIMESTAMPS = "bad_timestamps"
    NO_SPEECH = "no_speech"
    TOO_DARK = "too_dark"
    TOO_BRIGHT = "too_bright"
    BLURRED = "blurred"
    STILL = "still"
    SHAKY = "shaky"
    DAMAGED = "damaged"
    TRANSITION = "transition"
    WATERMARK = "watermark"
    DUPLICATE_CLIP = "duplicate_clip"
    NOT_AN_ACTION = "not_an_action"
    GREETING = "greeting"
    SPONSOR = "sponsor"
    CHATTER = "chatter"
    BARE_AMOUNT = "bare_amount"
    DUPLICATE_ACTION = "duplicate_action"
    NO_MATCH = "no_match"
    NO_CAPTION = "no_caption"
    REFUSED = "refused"
    OFF_TOPIC = "off_topic"
    INTRO = "intro"
    TALKING = "talking"
    END_CARD = "end_card"
    NO_ACTIONS = "no_actions"
    NO_CLIPS = "no_clips"
    TOO_FEW_STEPS = "too_few_steps"
    LOW_COVERAGE = "low_coverage"
    VIDEO_REJECTED = "video_rejected"
    RETRIES_EXHAUSTED = "retries_exhausted"
    WORKER_CRASHED = "worker_crashed"
    ENDPOINT_REFUSED = "endpoint_refused"
    BUDGET_SPENT = "budget_spent"
    STORE_FAILED = "store_failed"
    BUG = "bug"


FAILURES = frozenset(
    {
        Reason.RETRIES_EXHAUSTED,
        Reason.WORKER_CRASHED,
        Reason.ENDPOINT_REFUSED,
        Reason.BUDGET_SPENT,
        Reason.STORE_FAILED,
        Reason.BUG,
    }
)
"""Reasons that speak of us, not of the input: they count against the error budget."""
