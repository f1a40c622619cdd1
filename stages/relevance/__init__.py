"""Relevance of videos and clips to a topic."""

from stages.relevance.stage import JudgeClips, JudgeVideo, RelevanceSettings
from stages.relevance.topic import CLIP_CURVE, VIDEO_CURVE, Curve, Topic

__all__ = [
    "CLIP_CURVE",
    "VIDEO_CURVE",
    "Curve",
    "JudgeClips",
    "JudgeVideo",
    "RelevanceSettings",
    "Topic",
]
