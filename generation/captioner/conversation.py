"""An example as the model reads it: pictures, question and answer as tensors.

The conversation is the one that an OpenAI-compatible server makes of the same question: the system's
instructions, the pictures, the user's text. Only the answer carries loss.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoConfig, AutoProcessor
from transformers.models.auto import processing_auto
from transformers.utils.import_utils import is_torchvision_available

from generation.encoders.processors import processor_class
from pipeline.dataset.examples import Example, answer_of
from pipeline.platform.config import ConfigError
from stages.caption import spread

PROCESSORS: dict[str, str] = vars(processing_auto)["PROCESSOR_MAPPING_NAMES"]
"""Names of processors' classes by types of models."""
IGNORED = -100
"""The label of a token without loss."""


def load_processor(folder: Path) -> Any:
    """Load the processor of a model for pictures and text.

    Its part for videos needs torchvision, which may be missing: no video is ever sent.

    Raises:
        ConfigError: the folder holds no model with a processor.
    """
    try:
        if is_torchvision_available():
            return AutoProcessor.from_pretrained(folder)  # type: ignore[no-untyped-call]
        name = PROCESSORS[AutoConfig.from_pretrained(folder).model_type]
        return processor_class(name).from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"captioner.model {folder}: no model for pictures and text with its processor: {error}"
        ) from error


class Conversations:
    """Turns examples into tensors.

    Args:
        frames: pictures of an example that are shown, at most.
    """

    def __init__(self, processor: Any, *, frames: int) -> None:
        self.processor = processor
        self._frames = frames

    def question(self, example: Example) -> dict[str, Tensor]:
        """Return the model's inputs before its answer: ``input_ids [1, length]`` and the pictures."""
        frames = example["frames"]
        shown = [frames[int(place)] for place in spread(range(len(frames)), self._frames)]
        pictures = [Image.open(io.BytesIO(jpeg)).convert("RGB") for jpeg in shown]
        content = [{"type": "image"} for _ in pictures] + [{"type": "text", "text": example["material"]}]
        prompt = self.processor.apply_chat_template(
            [
                {"role": "system", "content": [{"type": "text", "text": example["instructions"]}]},
                {"role": "user", "content": content},
            ],
            add_generation_prompt=True,
            tokenize=False,
        )
        read = self.processor(text=[prompt], images=pictures or None, return_tensors="pt")
        return cast(dict[str, Tensor], dict(read))

    def example(self, example: Example) -> dict[str, Tensor]:
        """Return the inputs of question and answer, with ``labels [1, length]``."""
        inputs = self.question(example)
        tokenizer = self.processor.tokenizer
        text = answer_of(example) + tokenizer.eos_token
        answer = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        asked = inputs["input_ids"]
        for name in _along_the_text(inputs):
            fill = {"input_ids": answer, "attention_mask": torch.ones_like(answer)}
            inputs[name] = torch.cat([inputs[name], fill.get(name, torch.zeros_like(answer))], dim=1)
        inputs["labels"] = torch.cat([torch.full_like(asked, IGNORED), answer], dim=1)
        return inputs

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Return a batch, padded at the end; pictures of all examples follow each other."""
        read = [self.example(example) for example in examples]
        longest = max(one["input_ids"].shape[1] for one in read)
        fill = {"labels": IGNORED, "input_ids": self.processor.tokenizer.pad_token_id}
        along = _along_the_text(read[0])
        batch: dict[str, Tensor] = {}
        for name in read[0]:
            tensors = [one[name] for one in read]
            if name in along:
                tensors = [
                    torch.nn.functional.pad(one, (0, longest - one.shape[1]), value=fill.get(name, 0))
                    for one in tensors
                ]
            batch[name] = torch.cat(tensors)
        return batch

    def says(self, model: Any, example: Example, *, max_tokens: int) -> str:
        """Return a model's answer, its most probable tokens."""
        inputs = {name: tensor.to(model.device) for name, tensor in self.question(example).items()}
        length = inputs["input_ids"].shape[1]
        with torch.inference_mode():
            written = model.generate(**inputs, max_new_tokens=max_tokens, do_sample=False)
        return cast(str, self.processor.tokenizer.decode(written[0, length:], skip_special_tokens=True))


def _along_the_text(inputs: dict[str, Tensor]) -> list[str]:
    """Return the names of the inputs that have a value for each token."""
    shape = inputs["input_ids"].shape
    return [name for name, tensor in inputs.items() if tensor.shape == shape]
