"""Trained models in the formats of other libraries: adapters of diffusers and peft, whole models.

The adapter of a generator, or of a decoder that is FLUX.1 Fill, is what diffusers' ``load_lora_weights``
reads, in a folder for each transformer; a director's is what peft and vLLM read. What they have beyond the
base model - state branches, resamplers, queries - belongs to no format and stays in ``model.safetensors``
of the trained model's folder.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor

from generation.config import Lora
from generation.director.model import DirectorModel
from generation.encoders.backbones import lora_config
from generation.encoders.rolling import RollingDecoder
from generation.generator.model import GeneratorModel
from generation.store import Kind, load_learner
from pipeline.platform.config import ConfigError

WEIGHTS_NAME = "diffusion_pytorch_model.safetensors"
BRANCH = ".attn2.states."
"""Marks the weights of state branches, which the base class does not have."""
DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"


def export_model(models: Path, kind: Kind, out: Path) -> list[Path]:
    """Write a trained model for other libraries; return the folders written.

    Args:
        models: folder of trained models.
        kind: director, generator, or a decoder that is FLUX.1 Fill.
        out: new folder.

    Raises:
        ConfigError: the model is missing or of another kind, or ``out`` exists.
    """
    if out.exists():
        raise ConfigError(f"{out}: is there already; name a new folder")
    learner = load_learner(kind, models)
    if isinstance(learner, GeneratorModel):
        return export_generator(learner, out)
    if isinstance(learner, DirectorModel):
        return [export_director(learner, out)]
    if isinstance(learner, RollingDecoder):
        return [_write_adapter(learner.transformer, learner.rolling.lora, out / "transformer")]
    raise ConfigError(f"{models / kind}: no other library reads this model")


def export_generator(model: GeneratorModel, out: Path) -> list[Path]:
    """Write each transformer: its adapter for ``load_lora_weights``, or all of its weights.

    A pipeline with two experts takes the second folder with ``load_into_transformer_2=True``.
    """
    if model.options.transformer.path is None:
        raise ConfigError("a generator that was trained from nothing has learned places, which no class of "
                          "diffusers has; train from weights (generator.transformer.path)")  # fmt: skip
    written = []
    transformer: Any
    for name, transformer in model.backbone.transformers().items():
        folder = out / name
        if model.options.transformer.train == "lora":
            _write_adapter(transformer, model.options.transformer.lora, folder)
        else:
            folder.mkdir(parents=True)
            transformer.save_config(folder)
            base = {key: value for key, value in transformer.state_dict().items() if BRANCH not in key}
            save_file(_saved(base), folder / WEIGHTS_NAME, metadata={"format": "pt"})
        written.append(folder)
    return written


def export_director(model: DirectorModel, out: Path) -> Path:
    """Write the language model: its adapter as peft does, or all of its weights and its tokenizer.

    The adapter makes the base model write plans' texts; without the director there are no states.
    """
    out.mkdir(parents=True)
    options = model.options.backbone
    language: Any = model.language.model
    if options.train != "lora":
        language.save_pretrained(out)
        model.language.tokenizer.save_pretrained(out)
        return out
    path = next(name for name, part in language.named_modules() if part is model.language.decoder)
    adapter = get_peft_model_state_dict(model.language.decoder)
    tensors = {f"base_model.model.{path}.{key}": value for key, value in adapter.items()}
    config = _plain(lora_config(options.lora)) | {"base_model_name_or_path": str(options.path or "")}
    save_file(_saved(tensors), out / "adapter_model.safetensors", metadata={"format": "pt"})
    (out / "adapter_config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    return out


def _write_adapter(transformer: Any, options: Lora, folder: Path) -> Path:
    """Write the adapter of a diffusers transformer into a new folder, and return it."""
    folder.mkdir(parents=True)
    adapter = get_peft_model_state_dict(transformer)
    tensors = {f"transformer.{key}": value for key, value in adapter.items()}
    settings = {f"transformer.{key}": value for key, value in _plain(lora_config(options)).items()}
    metadata = {"format": "pt", "lora_adapter_metadata": json.dumps(settings, sort_keys=True)}
    save_file(_saved(tensors), folder / DIFFUSERS_FILE, metadata=metadata)
    return folder


def _plain(config: LoraConfig) -> dict[str, Any]:
    """Return an adapter's configuration as JSON values."""
    found: dict[str, Any] = {}
    for key, value in config.to_dict().items():
        found[key] = sorted(value) if isinstance(value, set) else getattr(value, "value", value)
    return found


def _saved(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
