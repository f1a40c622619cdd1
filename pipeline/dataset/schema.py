"""The tables of the dataset: their columns, types and meaning, in one place."""

from __future__ import annotations

import pyarrow as pa

SCHEMA_VERSION = 3
"""Version 3: URIs are relative to ``input_root`` of the manifest; before, they were absolute."""

TEXT, FLOAT, INT, BOOL = pa.string(), pa.float64(), pa.int64(), pa.bool_()


def _fields(*columns: tuple[str, pa.DataType, str]) -> list[pa.Field]:
    return [pa.field(name, kind, metadata={"description": text}) for name, kind, text in columns]


def _table(description: str, *columns: tuple[str, pa.DataType, str]) -> pa.Schema:
    return pa.schema(
        _fields(*columns),
        metadata={"description": description, "schema_version": str(SCHEMA_VERSION)},
    )


_STEP = pa.struct(
    _fields(
        ("step_index", INT, "position in the narrative, from 0"),
        ("clip_id", TEXT, "its clip"),
        ("action_id", TEXT, "its action of highest IoU; null for a clip without one"),
        ("start_s", FLOAT, "start of the clip in seconds"),
        ("end_s", FLOAT, "end of the clip in seconds, exclusive"),
        ("action", TEXT, "text of the action"),
        ("caption", TEXT, "caption of the clip"),
        (
            "gap_s",
            FLOAT,
            "time since the step before ended; of the first, since the video began",
        ),
        ("repeats", INT, "step_index of the earlier step that says the same; null if none does"),
    )
)

_OVERLAY = pa.struct(
    _fields(
        ("kind", TEXT, "kind of the overlay"),
        ("box", pa.list_(FLOAT), "left, top, right and bottom as shares of the picture"),
        ("score", FLOAT, "confidence in [0, 1] that it is laid over the scene"),
        ("text", TEXT, "text that was read in it"),
    )
)

TABLES: dict[str, pa.Schema] = {
    "videos": _table(
        "One row per input file: facts, status, counts.",
        ("uri", TEXT, "the file, relative to input_root in manifest.json, percent-encoded; the key"),
        ("video_id", TEXT, "16 hex digits of the content's sha256; copies share it"),
        ("status", TEXT, "kept, rejected, duplicate or failed"),
        ("duplicate_of", TEXT, "URI of the first file with this content, for duplicates"),
        ("duration_s", FLOAT, "length of the video stream in seconds"),
        ("width_px", INT, "displayed width, after rotation"),
        ("height_px", INT, "displayed height, after rotation"),
        ("fps", FLOAT, "average frame rate"),
        ("has_audio", BOOL, "whether there is an audio stream"),
        ("num_clips", INT, "kept clips"),
        ("num_actions", INT, "well-formed actions"),
        ("num_matches", INT, "valid pairs of clip and action"),
        ("container", TEXT, "format of the file"),
        ("video_codec", TEXT, "codec of the pictures"),
        ("audio_codec", TEXT, "codec of the sound"),
        ("language", TEXT, "spoken language, ISO 639-1"),
        ("shot_starts_s", pa.list_(FLOAT), "start of every shot, in seconds"),
        (
            "picture_box",
            pa.list_(FLOAT),
            "x0, y0, x1, y1 of the part inside black bars; null for all of it",
        ),
        ("title", TEXT, "what the video shows how to do"),
        ("transcript_model", TEXT, "what wrote the transcript"),
        ("relevance", FLOAT, "how much the video has to do with the topic, in [0, 1]; null without one"),
    ),
    "clips": _table(
        "One row per kept clip.",
        ("clip_id", TEXT, "the key"),
        ("video_id", TEXT, "the video it is part of"),
        ("clip_index", INT, "position among all candidate clips of the video, from 0"),
        ("start_s", FLOAT, "start in seconds of presentation time"),
        ("end_s", FLOAT, "end in seconds, exclusive"),
        ("video_uri", TEXT, "file that it is cut from, relative to input_root in manifest.json"),
        ("caption", TEXT, "description of what is seen"),
        ("caption_model", TEXT, "what wrote the caption"),
        ("caption_frames_s", pa.list_(FLOAT), "times of the frames that it saw"),
        ("caption_prompt", TEXT, "name and digest of the prompt"),
        ("caption_input_tokens", INT, "tokens read for the caption, as the server reports them"),
        ("caption_output_tokens", INT, "tokens written for the caption"),
        ("relevance", FLOAT, "how much the clip has to do with the topic, in [0, 1]; null without one"),
        ("num_shots", INT, "shots it touches"),
        ("watermark_score", FLOAT, "confidence in [0, 1] that an overlay is laid over the scene"),
        ("overlays", pa.list_(_OVERLAY), "overlays that are seen in it, the most certain first"),
        ("crop_box", pa.list_(FLOAT), "x0, y0, x1, y1 of the part without overlays; null for all of it"),
        ("sharpness", FLOAT, "median of v / (v + 100), v the variance of the Laplacian, in [0, 1]"),
        ("exposure", FLOAT, "median luma in [0, 1]"),
        ("motion", FLOAT, "mean absolute luma difference of frames half a second apart, in [0, 1]"),
        ("screen_text", pa.list_(TEXT), "lines read on the screen"),
    ),
    "actions": _table(
        "One row per well-formed action, matched or not.",
        ("action_id", TEXT, "the key"),
        ("video_id", TEXT, "the video it is spoken in"),
        ("start_s", FLOAT, "start of its words in seconds"),
        ("end_s", FLOAT, "end of its words in seconds"),
        ("text", TEXT, "the action, a short sentence in the present tense"),
        ("asr_text", TEXT, "the words it was made from"),
        ("confidence", FLOAT, "mean confidence of the recogniser in [0, 1]"),
        ("source", TEXT, "llm: written by a language model; asr: the cleaned spoken sentence"),
        ("matched", BOOL, "whether a kept clip belongs to it"),
        (
            "unmatched_because",
            TEXT,
            "condition of the rule that the nearest clip fails, or clip_dropped; null if matched",
        ),
    ),
    "matches": _table(
        "One row per valid pair of clip and action.",
        ("video_id", TEXT, "the video of both"),
        ("clip_id", TEXT, "the clip"),
        ("action_id", TEXT, "the action"),
        ("iou", FLOAT, "overlap over joint extent, in [0, 1]"),
        ("start_diff_s", FLOAT, "absolute distance of the two starts in seconds"),
        ("rule", TEXT, "start: near starts and enough overlap; iou: overlap alone"),
    ),
    "narratives": _table(
        "One row per kept video: its ordered steps.",
        ("video_id", TEXT, "the video; the key"),
        ("title", TEXT, "what the video shows how to do"),
        ("title_source", TEXT, "where the title is from: container, file_name, speech, steps or llm"),
        ("steps", pa.list_(_STEP), "clips in order of time, each with its action of highest IoU"),
        ("integrity", FLOAT, "share of the video's actions that the steps tell, in [0, 1]"),
    ),
    "rejects": _table(
        "One row per file, clip or action that was dropped.",
        ("kind", TEXT, "file, clip or action"),
        ("uri", TEXT, "the file, relative to input_root in manifest.json"),
        ("video_id", TEXT, "the video"),
        ("clip_id", TEXT, "the clip, where a clip was dropped"),
        ("action_id", TEXT, "the action, where an action was dropped"),
        ("stage", TEXT, "stage that dropped it"),
        ("reason", TEXT, "why, from a closed set"),
        ("detail", TEXT, "what a person needs to judge the reason"),
        ("start_s", FLOAT, "start in the video, of clips and actions"),
        ("end_s", FLOAT, "end in the video, of clips and actions"),
    ),
}
