"""One training function for every :class:`~generation.core.learner.Learner`.

It runs in this process, in each process of ``torchrun`` and in each worker of Ray Train alike. Losses
depend on seed, step and row alone, so the run is the same after a kill and, to rounding, on any number of
processes.

A run's folder::

    losses.jsonl             one line a step: step, lr, losses, grad_norm, seconds
    memory.json              parts that a batch was cut into after the GPU's memory ran out, if it did
    checkpoints/step-000100  model, ema and optimizer as safetensors, trainer.json; with fsdp a folder each
    previews/step-000100     what the learner paints at that step
    tensorboard              and what other trackers write
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import GradientAccumulationPlugin, ProjectConfiguration
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from generation.config import Train
from generation.core.checkpoints import new_checkpoint, newest_checkpoint, read_facts, read_part, write_part
from generation.core.learner import Batch, Learner
from generation.store import load_weights
from generation.training.parts import Parts, TrainingError
from generation.training.sharding import read_sharded, save_sharded, sharded
from models.files import write_whole
from pipeline.platform.config import ConfigError, leaves

PREVIEWED_ROWS = 4
VALIDATION = -1
"""Stands for the step in the seeds of validation rows."""
Line = dict[str, float]


class Batches(Protocol):
    """This rank's rows of every global batch, such as :class:`pipeline.dataset.loader.ShardBatches`."""

    places: list[int]

    def __getitem__(self, step: int) -> list[dict[str, Any]]: ...


def row_seed(*parts: int) -> int:
    """Return a seed below 2^63 from some numbers; any change of them gives an unrelated one."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def train(
    learner: Learner,
    batches_for: Callable[[int, int], Batches],
    options: Train,
    folder: Path,
    *,
    made_with: Mapping[str, Any] | None = None,
    report: Callable[[Line], None] | None = None,
    held_out: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Train up to ``options.steps``, from the newest checkpoint in the folder if there is one.

    Afterwards the learner holds the trained weights, averaged ones where ``ema_decay`` is set (with
    ``fsdp`` only the checkpoint holds them).

    Args:
        learner: on the CPU; the same initial weights in every process.
        batches_for: from rank and number of processes to their batches.
        options: of the run.
        folder: of the run.
        made_with: what the run depends on, as plain JSON values; a checkpoint made with others is refused.
        report: gets each line of ``losses.jsonl``, in the first process.
        held_out: rows that are not trained on; their loss is ``validation_loss`` of a line.

    Raises:
        ConfigError: options that do not go together here, or a checkpoint of another recipe.
        TrainingError: the loss is not finite, or the GPU's memory does not suffice for one row at a time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _accelerator(options, folder) as accelerator:
        run = _Run(accelerator, learner, options, folder, made_with or {})
        batches = batches_for(accelerator.process_index, accelerator.num_processes)
        with run.lines(report) as write:
            for step, line in run.steps(batches):
                write(line | run.validation(step, held_out))
                run.after(step, batches)
        run.finish()


@contextmanager
def _accelerator(options: Train, folder: Path) -> Iterator[Accelerator]:
    try:
        accelerator = Accelerator(
            # Without it accelerate starts no processes on machines that have nothing else.
            cpu=not torch.accelerator.is_available(),
            mixed_precision="no" if options.fsdp else options.precision,
            gradient_accumulation_plugin=GradientAccumulationPlugin(
                num_steps=options.accumulate, sync_with_dataloader=False
            ),
            log_with=list(options.trackers) or None,
            project_config=ProjectConfiguration(project_dir=folder, logging_dir=folder / "tensorboard"),
            # A share of the parameters may have no part in a batch's loss, such as a text's in a batch
            # without one.
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
    except ValueError as error:
        raise ConfigError(f"train.precision {options.precision}, train.trackers: {error}") from error
    try:
        if options.lanes % accelerator.num_processes:
            raise ConfigError(
                f"train.lanes ({options.lanes}): must be a multiple of the number of processes "
                f"({accelerator.num_processes})"
            )
        if options.fsdp and (accelerator.num_processes == 1 or options.preview_every):
            raise ConfigError(
                "train.fsdp: shards over several processes (train.processes above 1), and previews need "
                "the whole model (set train.preview_every to 0)"
            )
        if options.fsdp and options.precision == "fp16":
            raise ConfigError("train.fsdp: takes train.precision no or bf16")
        yield accelerator
    finally:
        # Accelerate keeps its settings for the life of the process; the next run may have others.
        AcceleratorState._reset_state()
        GradientState._reset_state()


class _Run:
    """The moving parts of one run."""

    def __init__(
        self,
        accelerator: Accelerator,
        learner: Learner,
        options: Train,
        folder: Path,
        made_with: Mapping[str, Any],
    ) -> None:
        self.accelerator, self.learner, self.options, self.folder = accelerator, learner, options, folder
        self.made_with = json.loads(json.dumps(made_with))
        checkpoint = newest_checkpoint(folder / "checkpoints")
        facts = read_facts(checkpoint) if checkpoint else {}
        self.done = int(facts.get("step", 0))
        if checkpoint:
            refuse_changed(checkpoint, facts["made_with"], self.made_with)
            if not options.fsdp:
                load_weights(learner, read_part(checkpoint, "model"), source=checkpoint)
        self.parts = Parts.of(options, folder, accelerator.num_processes)
        accelerator.gradient_accumulation_steps = self.parts.count
        learner.train().to(accelerator.device)
        if options.fsdp:
            self.model: Any = sharded(learner, options)
        else:
            self.model = accelerator.prepare_model(learner)
        self.named = {name: p for name, p in learner.named_parameters() if p.requires_grad}
        self.parameters = list(self.named.values())
        if not self.parameters:
            raise ConfigError("nothing to train: every weight of the model is frozen")
        adam = AdamW(
            [{"params": self.parameters, "initial_lr": options.lr}], lr=options.lr, betas=options.betas,
            weight_decay=options.weight_decay, fused=not options.fsdp,
        )  # fmt: skip
        self.optimizer = accelerator.prepare_optimizer(adam)
        self.schedule = LambdaLR(
            self.optimizer.optimizer, lambda step: _rate(step, options), last_epoch=self.done - 1
        )
        self.averaged = [p.detach().clone().float() for p in self.parameters] if options.ema_decay else None
        if checkpoint:
            self._restore(checkpoint, facts)

    def steps(self, batches: Batches) -> Iterator[tuple[int, Line]]:
        """Make the updates that are left; yield each one's number, from 1, and its line.

        A step whose micro-batches do not fit the GPU's memory is repeated in smaller ones, and so are all
        after it. The batch of a step, and its rows' seeds, stay the same.
        """
        while self.done < self.options.steps:
            for micro_batches in self._loader(batches):
                try:
                    line = self._step(self.done, micro_batches)
                except torch.OutOfMemoryError as error:
                    self._cut_smaller(error)
                    break
                self.done += 1
                yield self.done, line
            # Outside of the handler, whose traceback would keep the failed step's tensors alive.
            self.optimizer.zero_grad()
            torch.cuda.empty_cache()

    def _loader(self, batches: Batches) -> DataLoader[list[Batch]]:
        """Return the micro-batches of every step that is left."""
        options = self.options
        return DataLoader(
            _Collated(batches, self.learner, options.seed, self.parts.count),
            batch_size=None,
            sampler=range(self.done, options.steps),
            num_workers=options.loader_workers,
            collate_fn=_as_is,
            pin_memory=self.accelerator.device.type == "cuda",
        )

    def _step(self, step: int, micro_batches: Sequence[Batch]) -> Line:
        """Make one update; ``step`` counts from 0.

        Raises:
            torch.OutOfMemoryError: in a forward or backward pass; no weight has changed.
        """
        accelerator, parts = self.accelerator, self.parts.count
        # Whatever draws from the global generator, such as dropout, goes on exactly after a kill.
        torch.manual_seed(row_seed(self.options.seed, step, accelerator.process_index))
        sums: dict[str, Tensor] = {}
        for batch in micro_batches:
            with accelerator.accumulate(self.model):
                on_device = {
                    name: tensor.to(accelerator.device, non_blocking=True) for name, tensor in batch.items()
                }
                losses: dict[str, Tensor] = self.model(on_device)
                accelerator.backward(losses["loss"].mean())
                for name, loss in losses.items():
                    share = loss.detach().float().mean() / parts
                    sums[name] = sums[name] + share if name in sums else share
        norm = float(accelerator.clip_grad_norm_(self.parameters, self.options.clip_norm))
        lr = self.schedule.get_last_lr()[0]
        self._update()
        self.optimizer.zero_grad()
        self.schedule.step()
        self._average(step)
        means = accelerator.reduce(torch.stack(list(sums.values())), reduction="mean")
        values = dict(zip(sums, means.tolist(), strict=True))
        # With fp16 the scaler skips a step whose gradients overflow; else it would spoil the weights.
        checked = {"loss": values["loss"]} | ({} if accelerator.scaler else {"gradient norm": norm})
        for name, value in checked.items():
            if not math.isfinite(value):
                raise TrainingError(
                    f"{self.folder}: the {name} of step {step + 1} is {value}; lower train.lr or "
                    "train.clip_norm, or raise train.warmup_steps"
                )
        return {"step": step + 1, "lr": lr, **values, "grad_norm": norm}

    def _update(self) -> None:
        """Let the optimiser change the weights.

        Raises:
            TrainingError: its moments do not fit the GPU's memory.
        """
        try:
            self.optimizer.step()
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"{self.folder}: out of GPU memory for the optimiser's moments; train fewer weights "
                f"(LoRA), or shard over more GPUs with train.fsdp ({error})"
            ) from error

    def _cut_smaller(self, error: torch.OutOfMemoryError) -> None:
        """Cut the batch into more parts; with companions, for the restarted run.

        Raises:
            TrainingError: a part is one row already, or there are companions, which wait for this process's
                part of the gradients.
        """
        parts = self.parts.smaller(self.folder, error)
        if self.accelerator.num_processes > 1:
            raise TrainingError(
                f"{self.folder}: out of GPU memory; started again, the run goes on from its last "
                f"checkpoint with train.accumulate={parts.count} ({error})"
            ) from error
        self.parts = parts
        self.accelerator.gradient_accumulation_steps, self.accelerator.step = parts.count, 0

    def validation(self, step: int, rows: Sequence[Mapping[str, Any]]) -> Line:
        """Return ``validation_loss`` after so many updates, if it is due.

        Seeds depend on the row alone, so the losses of two steps differ by the weights only.
        """
        due = step % self.options.validate_every == 0 or step == self.options.steps
        size = max(1, self.options.batch_size // (self.options.lanes * self.parts.count))
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        mine = rows[rank : len(rows) // world * world : world] or rows
        if not due or not rows:
            return {}
        self.model.eval()
        losses = []
        with torch.no_grad(), self.accelerator.autocast():
            for first in range(0, len(mine), size):
                part = mine[first : first + size]
                seeds = [
                    row_seed(self.options.seed, VALIDATION, first + place) for place in range(len(part))
                ]
                batch = {
                    name: tensor.to(self.accelerator.device)
                    for name, tensor in self.learner.collate(part, seeds).items()
                }
                losses.append(self.model(batch)["loss"].detach().float())
        self.model.train()
        mean = self.accelerator.reduce(torch.cat(losses).mean(), reduction="mean")
        return {"validation_loss": float(mean)}

    def after(self, step: int, batches: Batches) -> None:
        """Do what is due after so many updates: a checkpoint, previews."""
        options = self.options
        if step % options.checkpoint_every == 0 or step == options.steps:
            self._save(step)
        if options.preview_every and step % options.preview_every == 0:
            if self.accelerator.is_main_process:
                self._preview(step, batches)
            self.accelerator.wait_for_everyone()

    @contextmanager
    def lines(self, report: Callable[[Line], None] | None) -> Iterator[Callable[[Line], None]]:
        """Write lines to ``losses.jsonl`` and the trackers, each with the seconds since the last."""
        if not self.accelerator.is_main_process:
            yield _as_is
            return
        path = self.folder / "losses.jsonl"
        cut_lines(path, self.done)
        self._start_trackers()
        last = time.perf_counter()
        with path.open("a", encoding="utf-8") as file:

            def write(line: Line) -> None:
                nonlocal last
                now = time.perf_counter()
                line = line | {"seconds": round(now - last, 4)}
                last = now
                # JSON has no infinity; the norm is infinite where fp16 overflowed and the step is skipped.
                finite = {name: value if math.isfinite(value) else None for name, value in line.items()}
                file.write(json.dumps(finite) + "\n")
                file.flush()
                self.accelerator.log(line, step=int(line["step"]))
                if report:
                    report(line)

            try:
                yield write
            finally:
                for tracker in self.accelerator.trackers:
                    tracker.finish()

    def finish(self) -> None:
        """Leave the learner as a plain module with the trained weights."""
        if self.options.fsdp:
            return
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        if self.averaged:
            with torch.no_grad():
                for parameter, average in zip(self.parameters, self.averaged, strict=True):
                    parameter.copy_(average)

    def _start_trackers(self) -> None:
        options = {
            name: value if isinstance(value, (bool, int, float, str)) else str(value)
            for name, value in leaves(self.options.model_dump(mode="json"))
        }
        self.accelerator.init_trackers(
            self.folder.name, config=options, init_kwargs={"tensorboard": {"purge_step": self.done + 1}}
        )

    def _average(self, step: int) -> None:
        if self.averaged:
            # Warms up, or the untrained weights would stay in the average of a short run.
            decay = min(self.options.ema_decay, (1 + step) / (10 + step))
            current = [parameter.detach().float() for parameter in self.parameters]
            update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
            update(self.averaged, current, torch.empty(0))

    def _preview(self, step: int, batches: Batches) -> None:
        folder = self.folder / "previews" / f"step-{step:06d}"
        folder.mkdir(parents=True, exist_ok=True)
        kept = [parameter.detach().clone() for parameter in self.parameters] if self.averaged else []
        self.learner.eval()
        try:
            with torch.no_grad():
                for parameter, average in zip(self.parameters, self.averaged or [], strict=bool(kept)):
                    parameter.copy_(average)
                self.learner.preview(batches[0][:PREVIEWED_ROWS], folder, seed=self.options.seed)
        finally:
            with torch.no_grad():
                for parameter, value in zip(self.parameters, kept, strict=bool(kept)):
                    parameter.copy_(value)
            self.learner.train()

    def _save(self, step: int) -> None:
        """Write a checkpoint: the first process all of it, or each process its shards."""
        state = self.optimizer.optimizer.state
        parts: dict[str, dict[str, Tensor]] = {
            "model": {name: tensor.detach() for name, tensor in self.learner.kept().items()},
            "optimizer": {
                f"{name}|{key}": value
                for name, parameter in self.named.items()
                for key, value in state.get(parameter, {}).items()
            },
        }
        if self.averaged:
            parts["ema"] = parts["model"] | dict(zip(self.named, self.averaged, strict=True))
        scaler = self.accelerator.scaler
        facts = {"made_with": self.made_with, "scaler": scaler.state_dict() if scaler else None}
        checkpoints, keep = self.folder / "checkpoints", self.options.keep_checkpoints
        if self.options.fsdp:
            save_sharded(self.accelerator, checkpoints, step, parts, facts, keep=keep)
        elif self.accelerator.is_main_process:
            with new_checkpoint(checkpoints, step, facts, keep=keep) as building:
                for name, tensors in parts.items():
                    write_part(building, name, {key: tensor.cpu() for key, tensor in tensors.items()})
        self.accelerator.wait_for_everyone()

    def _restore(self, checkpoint: Path, facts: Mapping[str, Any]) -> None:
        """Read everything but the weights of a whole model, which are read before it is wrapped."""
        if self.options.fsdp:
            load_weights(self.learner, read_sharded(checkpoint, "model", self.named), source=checkpoint)
        places = {name: place for place, name in enumerate(self.named)}
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in read_sharded(checkpoint, "optimizer", self.named).items():
            name, _, kind = key.rpartition("|")
            state.setdefault(places[name], {})[kind] = tensor
        optimizer = self.optimizer.optimizer
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        if self.averaged is not None:
            averages = read_sharded(checkpoint, "ema", self.named)
            self.averaged = [averages[name].to(self.accelerator.device) for name in self.named]
        if facts["scaler"]:
            self.accelerator.scaler.load_state_dict(facts["scaler"])


def refuse_changed(checkpoint: Path, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Check a checkpoint's facts against those of the run that continues it.

    Raises:
        ConfigError: they differ; the message names the keys.
    """
    then, now = dict(leaves(before)), dict(leaves(after))
    changed = [
        f"{key} was {then.get(key)!r}, is {now.get(key)!r}"
        for key in sorted(then.keys() | now.keys())
        if then.get(key) != now.get(key)
    ]
    if changed:
        raise ConfigError(
            f"{checkpoint} was made with another recipe ({'; '.join(changed[:5])}): name another "
            f"folder for MODELS, or delete {checkpoint.parent} to start again"
        )


class _Collated(Dataset[list[Batch]]):
    """The micro-batches of a step, as many in every process."""

    def __init__(self, batches: Batches, learner: Learner, seed: int, parts: int) -> None:
        self._batches, self._learner, self._seed, self._parts = batches, learner, seed, parts

    def __getitem__(self, step: int) -> list[Batch]:
        rows = self._batches[step]
        seeds = [row_seed(self._seed, step, place) for place in self._batches.places]
        size = len(rows) // self._parts
        return [
            self._learner.collate(rows[first : first + size], seeds[first : first + size])
            for first in range(0, len(rows), size)
        ]


def _rate(step: int, options: Train) -> float:
    """Return share of ``lr``: linear warm-up, then half a cosine down to 0."""
    if step < options.warmup_steps:
        return step / options.warmup_steps
    share = (step - options.warmup_steps) / max(1, options.steps - options.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def cut_lines(path: Path, done: int) -> None:
    """Drop the lines of a ``losses.jsonl`` after so many steps, and one that a kill tore."""
    if not path.exists():
        return
    kept = []
    with path.open(encoding="utf-8") as file:
        for line in file:
            with suppress(ValueError):
                if line.endswith("\n") and json.loads(line)["step"] <= done:
                    kept.append(line)
    write_whole(path, "".join(kept))


def _as_is(value: Any) -> Any:
    return value
