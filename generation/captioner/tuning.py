"""LoRA fine-tune of a vision-language model on captioned clips, by the Trainer of transformers and peft.

MODELS/captioner holds::

    losses.jsonl   a line a step: step, loss, lr, grad_norm; and lines with held_out_loss
    checkpoints/   of the Trainer; the same command goes on from the newest whole one
    adapter/       the low-rank adapter as safetensors, which peft loads over the base model
    merged/        the model with the adapter in it, and its processor: what servers take
    captioner.json what it was made of: recipe, examples, videos held out
    base/          the tiny twin, where the recipe names no model

The Trainer's checkpoints keep the optimizer as PyTorch files; they are read with ``weights_only``, which
unpickles nothing.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState, GradientState
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from peft import PeftModel, get_peft_model
from torch.utils.tensorboard import SummaryWriter
from transformers import (
    AutoModelForImageTextToText,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.integrations.integration_utils import TensorBoardCallback
from transformers.trainer import TRAINER_STATE_NAME

from generation.captioner.conversation import Conversations, load_processor
from generation.captioner.tiny import save_tiny
from generation.config import Captioner
from generation.encoders.backbones import lora_config
from generation.training.loop import cut_lines, refuse_changed
from generation.training.parts import TrainingError
from models.files import whole_file, whole_folder
from pipeline.dataset.examples import Examples, split_videos
from pipeline.platform.config import ConfigError
from pipeline.platform.progress import Bar

FOLDER, ADAPTER, MERGED, BASE = "captioner", "adapter", "merged", "base"
FACTS = "captioner.json"
SAFE = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")
"""What is fetched of a model: nothing that would have to be unpickled, no code."""
WITHOUT_EFFECT = {
    "evaluate_every", "checkpoint_every", "keep_checkpoints", "loader_workers", "trackers", "merge",
}  # fmt: skip
"""Options that change no weight, so that a run may go on with others."""

LOGGED = {"loss": "loss", "learning_rate": "lr", "grad_norm": "grad_norm", "eval_loss": "held_out_loss"}
"""Keys of a line of ``losses.jsonl`` by the Trainer's names."""


def train_captioner(examples: Path, models: Path, options: Captioner) -> Path:
    """Fine-tune on a folder of examples; return MODELS/captioner.

    Runs in this process and, where ``torchrun`` started it, its companions.

    Args:
        examples: what ``collect`` wrote.

    Raises:
        ExampleError: there are no examples.
        ConfigError: the model cannot be had, or the recipe does not fit it or the examples.
        TrainingError: training cannot go on.
    """
    folder = models / FOLDER
    state = PartialState(cpu=not torch.accelerator.is_available())
    everything = Examples(examples)
    train_on, hold_out = split_videos(everything.video_ids, options.held_out, options.seed)
    with state.main_process_first():
        base = base_model(options, folder)
        checkpoint = _newest_checkpoint(folder / "checkpoints")
    facts = {
        "captioner": options.model_dump(mode="json", exclude=WITHOUT_EFFECT),
        "examples": {"count": len(everything), "digest": everything.digest()},
        "held_out": hold_out,
    }
    if checkpoint is not None:
        refuse_changed(checkpoint, json.loads((folder / FACTS).read_text(encoding="utf-8")), facts)
    elif state.is_main_process:
        (folder / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    if checkpoint is None or _steps(checkpoint) < options.steps:
        sides = Examples(examples, train_on), Examples(examples, hold_out)
        _train(base, *sides, options, folder, checkpoint)
    if state.is_main_process:
        _publish(folder)
        if options.merge:
            merge(folder)
    state.wait_for_everyone()
    return folder


def _train(
    base: Path,
    train_on: Examples,
    hold_out: Examples,
    options: Captioner,
    folder: Path,
    checkpoint: Path | None,
) -> None:
    """Train up to ``options.steps``, from the checkpoint if there is one; the last step is saved as one."""
    processor = load_processor(base)
    torch.manual_seed(options.seed)
    adapted = _adapted(base, options)
    done = 0 if checkpoint is None else _steps(checkpoint)
    with (
        _accelerate_reset_after(),
        Bar("train captioner", options.steps, unit="steps", done=done) as bar,
    ):
        callbacks: list[TrainerCallback] = [_Log(folder / "losses.jsonl", bar, done)]
        if "tensorboard" in options.trackers:
            writer = SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1)
            callbacks.append(TensorBoardCallback(writer))  # type: ignore[no-untyped-call]
        try:
            trainer = Trainer(
                model=adapted,
                args=_arguments(options, folder),
                train_dataset=train_on,
                eval_dataset=hold_out if len(hold_out) else None,
                data_collator=Conversations(processor, frames=options.frames).collate,
                callbacks=callbacks,
            )
        except (ValueError, ImportError) as error:
            raise ConfigError(
                f"captioner.precision {options.precision}, captioner.trackers: {error}"
            ) from error
        # It would print the figures of the bar and the log again.
        trainer.remove_callback(PrinterCallback)
        if len(hold_out) and not done:
            trainer.evaluate()
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


def _publish(folder: Path) -> None:
    """Copy the adapter from the last checkpoint."""
    checkpoint = _newest_checkpoint(folder / "checkpoints")
    assert checkpoint is not None
    adapter = folder / ADAPTER
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        with whole_file(adapter / name) as part:
            shutil.copyfile(checkpoint / name, part)


def base_model(options: Captioner, folder: Path) -> Path:
    """Return the folder of the model to adapt; fetch it from the hub, or make the tiny twin, if needed.

    Raises:
        ConfigError: it cannot be had.
    """
    if options.model is None:
        base = folder / BASE
        if not (base / "config.json").is_file():
            with whole_folder(base) as building:
                save_tiny(building, seed=options.seed)
        return base
    folder.mkdir(parents=True, exist_ok=True)
    if Path(options.model).is_dir():
        return Path(options.model).resolve()
    try:
        return Path(snapshot_download(options.model, allow_patterns=list(SAFE)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise ConfigError(
            f"captioner.model {options.model}: neither a folder nor to be had from the hub ({error})"
        ) from error


def load_captioner(folder: Path) -> Any:
    """Load the base model with the adapter over it; see :meth:`Conversations.says`.

    Args:
        folder: MODELS/captioner.

    Raises:
        ConfigError: there is no adapter, or its base model is gone.
    """
    adapter = folder / ADAPTER
    try:
        facts = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        base = Path(facts["base_model_name_or_path"])
        dtype = json.loads((folder / FACTS).read_text(encoding="utf-8"))["captioner"]["dtype"]
        return PeftModel.from_pretrained(_load(base, dtype), adapter).eval()
    except (OSError, KeyError) as error:
        raise ConfigError(
            f"{adapter}: no adapter that can be loaded ({error}); run `videoauteur train captioner "
            f"EXAMPLES {folder.parent}`"
        ) from error


def merge(folder: Path) -> Path:
    """Save the model with the adapter in it, and all that a server needs beside it.

    Args:
        folder: MODELS/captioner.
    """
    captioner = load_captioner(folder)
    base = Path(captioner.peft_config["default"].base_model_name_or_path)
    # First what lies beside the base model's weights, as it is: a processor that was loaded and saved
    # again need not be the same.
    ignored = shutil.ignore_patterns("*.safetensors", "*.safetensors.index.json", ".*", "*.bin", "*.pt*")
    with whole_folder(folder / MERGED) as building:
        shutil.copytree(base, building, ignore=ignored, dirs_exist_ok=True)
        captioner.merge_and_unload().save_pretrained(building)
    return folder / MERGED


def _load(base: Path, dtype: str) -> Any:
    return AutoModelForImageTextToText.from_pretrained(
        base, dtype=getattr(torch, dtype), use_safetensors=True
    )


def _adapted(base: Path, options: Captioner) -> Any:
    """Load the base model, frozen, with new adapters."""
    try:
        model = _load(base, options.dtype)
        if options.gradient_checkpointing:
            # Or no gradient would reach the adapters through the frozen embedding.
            model.enable_input_require_grads()
        return get_peft_model(model, lora_config(options.lora))
    except (OSError, ValueError) as error:
        raise ConfigError(f"captioner.model {base}, captioner.lora.targets: {error}") from error


def _arguments(options: Captioner, folder: Path) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder / "checkpoints"),
        max_steps=options.steps,
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=options.batch_size,
        gradient_accumulation_steps=options.accumulate,
        learning_rate=options.lr,
        weight_decay=options.weight_decay,
        warmup_steps=options.warmup_steps,
        lr_scheduler_type="cosine",
        max_grad_norm=options.clip_norm,
        bf16=options.precision == "bf16",
        fp16=options.precision == "fp16",
        gradient_checkpointing=options.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        eval_strategy="steps" if options.held_out > 0 else "no",
        eval_steps=options.evaluate_every,
        save_strategy="steps",
        save_steps=options.checkpoint_every,
        save_total_limit=options.keep_checkpoints,
        logging_steps=1,
        logging_nan_inf_filter=False,
        # The one for tensorboard is made by hand, or it would choose its folder by the clock.
        report_to=[name for name in options.trackers if name != "tensorboard"],
        dataloader_num_workers=options.loader_workers,
        # The rows are read by name in our own collate.
        remove_unused_columns=False,
        label_names=["labels"],
        seed=options.seed,
        use_cpu=not torch.accelerator.is_available(),
        disable_tqdm=True,
    )


@contextmanager
def _accelerate_reset_after() -> Iterator[None]:
    """Reset accelerate afterwards: it keeps its settings for the process, and the next run may differ."""
    try:
        yield
    finally:
        AcceleratorState._reset_state()
        GradientState._reset_state()


def _newest_checkpoint(folder: Path) -> Path | None:
    """Return the last checkpoint that was written to its end; delete those that a kill tore."""
    found = sorted(folder.glob("checkpoint-*"), key=_steps)
    # The Trainer writes this file last.
    for torn in [path for path in found if not (path / TRAINER_STATE_NAME).is_file()]:
        shutil.rmtree(torn)
        found.remove(torn)
    return found[-1] if found else None


def _steps(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


class _Log(TrainerCallback):
    """Writes ``losses.jsonl`` and moves the bar, in the first process."""

    def __init__(self, path: Path, bar: Bar, done: int) -> None:
        if PartialState().is_main_process:
            cut_lines(path, done)
        self._path, self._bar = path, bar
        self._last = time.perf_counter()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **_: Any,
    ) -> None:
        found = {LOGGED[name]: value for name, value in (logs or {}).items() if name in LOGGED}
        if not math.isfinite(found.get("loss", 0.0)):
            raise TrainingError(
                f"{self._path.parent}: the loss of step {state.global_step} is {found['loss']}; lower "
                "captioner.lr or captioner.clip_norm, or raise captioner.warmup_steps"
            )
        if not found or not state.is_world_process_zero:
            return
        now = time.perf_counter()
        line = {"step": state.global_step, **found, "seconds": round(now - self._last, 4)}
        self._last = now
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if "loss" in found:
            self._bar.to(state.global_step, note=f"loss {found['loss']:.4f}")
