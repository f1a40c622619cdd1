"""Small narrated datasets."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.schema import TABLES

FPS = 10
LEVELS_A_FRAME = 4
Steps = list[tuple[float, float, str, str]]
STORIES: dict[str, tuple[str, Steps]] = {
    "aa00": ("How to make soup", [(0.0, 2.0, "Chop it.", "A knife."), (2.0, 2.5, "Stir.", ""),
                                  (3.0, 6.0, "Serve it.", "A bowl.")]),
    "bb11": ("How to make tea", [(0.0, 3.0, "Boil water.", "A kettle."), (3.0, 6.0, "", "A cup.")]),
}  # fmt: skip


def write_counting_video(path: Path, *, width: int = 96, height: int = 64, seconds: int = 6) -> None:
    """Frame n is grey of level 4 n, with black left and right of the middle square."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(seconds * FPS):
            image = np.zeros((height, width, 3), np.uint8)
            image[:, (width - height) // 2 : (width + height) // 2] = number * LEVELS_A_FRAME
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)


def counting_dataset(folder: Path) -> Path:
    """Write :data:`STORIES` as a dataset with its videos into a folder; return the folder."""
    for video_id in STORIES:
        write_counting_video(folder / f"{video_id}.mp4")
    write_dataset(folder, STORIES, folder)
    return folder


def write_dataset(folder: Path, stories: dict[str, tuple[str, Steps]], media: Path) -> None:
    """The tables that features read, as ``curate`` writes them."""
    clips, narratives = [], []
    for video_id, (title, steps) in stories.items():
        rows = [
            {"step_index": index, "clip_id": f"{video_id}-{index}", "start_s": start, "end_s": end,
             "action": action, "caption": caption}
            for index, (start, end, action, caption) in enumerate(steps)
        ]  # fmt: skip
        uri = (media / f"{video_id}.mp4").as_uri()
        clips += [{"clip_id": row["clip_id"], "video_id": video_id, "video_uri": uri} for row in rows]
        narratives.append({"video_id": video_id, "title": title, "steps": rows})
    for name, found in (("clips", clips), ("narratives", narratives)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        table = pa.Table.from_pylist(found, schema=TABLES[name])
        pq.write_table(table, folder / name / "part-all.parquet")
