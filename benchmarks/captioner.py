"""A captioner of our own, before and after its training, on the clips of a curated dataset.

``python -m benchmarks.captioner DATASET WORK [--vllm PYTHON]`` collects the dataset's captions as examples,
trains the tiny twin on them (WORK goes on where it stopped), lets the untrained and the trained model
caption every clip, and writes two datasets, WORK/before and WORK/after, for ``videoauteur evaluate
captions``. With the interpreter of an environment that has vLLM, the merged model is served too, and its
answers over HTTP are compared with those of the adapter here.

The twin's weights are random and its eyes stay so: figures show that the path works, not how well a
captioner of this kind describes.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from openai import OpenAI
from transformers import AutoModelForImageTextToText

from benchmarks.commands import parser_of
from benchmarks.machine import machine, markdown
from generation.captioner.conversation import Conversations, load_processor
from generation.captioner.tuning import load_captioner, train_captioner
from generation.config import Captioner
from models import vllm
from models.files import parquet_files
from models.server import Server
from pipeline.captions.collect import collect
from pipeline.curation.config import Config
from pipeline.dataset.examples import Example, Examples
from stages.english.caption_rules import CaptionLimits, complaints

SERVED = "captioner"
CONTEXT_TOKENS = 4096


def main() -> None:
    """Train, caption before and after, serve; print a table and a line of JSON."""
    parser = parser_of("captioner", main.__doc__)
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="an OUTPUT of curate")
    parser.add_argument("work", type=Path, metavar="WORK", help="a folder, new or of an earlier run")
    parser.add_argument("--steps", type=int, default=150, metavar="N")
    parser.add_argument("--max-tokens", type=int, default=96, metavar="N", help="of an answer")
    parser.add_argument("--served", type=int, default=3, metavar="N", help="clips asked over HTTP")
    parser.add_argument("--vllm", metavar="PYTHON", help="interpreter of an environment with vLLM")
    given = parser.parse_args()
    collect(given.dataset, given.work / "examples", Config(), clips=None, seed=0)
    options = Captioner(steps=given.steps, lr=5e-3, held_out=0.34, evaluate_every=50, checkpoint_every=50)
    folder = train_captioner(given.work / "examples", given.work, options)
    examples = Examples(given.work / "examples")
    conversations = Conversations(load_processor(folder / "merged"), frames=options.frames)
    tuned = load_captioner(folder)
    models: dict[str, Any] = {"before": AutoModelForImageTextToText.from_pretrained(folder / "base")}
    models["after"] = tuned

    def say(model: Any) -> Callable[[Example], str]:
        return lambda example: conversations.says(model, example, max_tokens=given.max_tokens)

    figures: dict[str, Any] = _losses(folder)
    held_out = set(json.loads((folder / "captioner.json").read_text())["held_out"])
    for name, model in models.items():
        answers = {example["clip_id"]: say(model)(example) for example in examples}
        captions = {clip_id: _caption(answer) for clip_id, answer in answers.items()}
        _write(given.dataset, given.work / name, captions, model=name)
        usable = [not complaints(text, CaptionLimits()) for text in captions.values()]
        figures[f"{name}_usable"] = sum(usable) / len(usable)
    if given.vllm:
        some = [example for example in examples if example["video_id"] in held_out][: given.served]
        here = [say(tuned)(example) for example in some]
        there = _over_http(folder / "merged", some, given.vllm, given.max_tokens, given.work)
        figures["served_same"] = sum(a == b for a, b in zip(here, there, strict=True)) / len(some)
    print(f"\n{machine()}; {len(examples)} clips\n")
    print(markdown(["figure", "value"], list(figures.items())))
    print(json.dumps(figures))


def _losses(folder: Path) -> dict[str, float]:
    lines = [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
    train = [line["loss"] for line in lines if "loss" in line]
    held_out = [line["held_out_loss"] for line in lines if "held_out_loss" in line]
    return {
        "train_loss_first": train[0],
        "train_loss_last": train[-1],
        "held_out_loss_first": held_out[0],
        "held_out_loss_best": min(held_out),
        "held_out_loss_last": held_out[-1],
    }


def _caption(answer: str) -> str:
    """The caption of an answer; an answer of another form as it is."""
    try:
        return str(json.loads(answer)["caption"])
    except (ValueError, KeyError, TypeError):
        return answer


def _write(dataset: Path, folder: Path, captions: Mapping[str, str], *, model: str) -> None:
    """The dataset with other captions."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(dataset, folder, ignore=shutil.ignore_patterns("_*"))
    frames = dataset.resolve() / "_work"
    if frames.is_dir():
        (folder / "_work").symlink_to(frames)
    for file in parquet_files(folder / "clips"):
        table = pq.read_table(file)
        clip_ids = table["clip_id"].to_pylist()
        for name, values in (
            ("caption", [captions.get(clip_id, "") for clip_id in clip_ids]),
            ("caption_model", [model] * len(clip_ids)),
        ):
            at = table.schema.get_field_index(name)
            table = table.set_column(at, table.schema.field(at), pa.array(values, pa.string()))
        pq.write_table(table, file)


def _over_http(model: Path, examples: list[Example], python: str, max_tokens: int, work: Path) -> list[str]:
    """Return vLLM's answers to the same questions."""
    command = vllm.command(
        str(model), name=SERVED, python=python, threads=1, context_tokens=CONTEXT_TOKENS,
        more=("--enforce-eager", "--dtype", "float32", "--gpu-memory-utilization", "0.1"),
    )  # fmt: skip
    answers = []
    with Server(command, host="127.0.0.1", deadline_s=900, log=work / "vllm.log") as server:
        client = OpenAI(base_url=server.base_url, api_key="none")
        for example in examples:
            pictures = [
                "data:image/jpeg;base64," + base64.b64encode(jpeg).decode() for jpeg in example["frames"]
            ]
            content: list[Any] = [{"type": "image_url", "image_url": {"url": url}} for url in pictures]
            content.append({"type": "text", "text": example["material"]})
            completion = client.chat.completions.create(
                model=SERVED,
                messages=[
                    {"role": "system", "content": example["instructions"]},
                    {"role": "user", "content": content},
                ],
                temperature=0,
                max_tokens=max_tokens,
            )
            answers.append(completion.choices[0].message.content or "")
    return answers


if __name__ == "__main__":
    main()
