"""Steps for a question that no story answers, written by the packaged language model."""

from __future__ import annotations

import functools
import re

import torch

from generation import config
from generation.encoders.backbones import Language, load_backbone

PROMPT = (
    "<|im_start|>system\nYou list cooking and household steps. Answer with a numbered list of short "
    "sentences in the imperative, one action each, and nothing else.<|im_end|>\n"
    "<|im_start|>user\nHow to boil an egg? Give 3 steps.<|im_end|>\n"
    "<|im_start|>assistant\n1. Bring a pot of water to the boil.\n2. Lower the egg into the water.\n"
    "3. Take the egg out and peel it.<|im_end|>\n"
    "<|im_start|>user\n{goal} Give {count} steps.<|im_end|>\n<|im_start|>assistant\n1."
)
TOKENS_A_STEP = 24
GOAL_CHARACTERS = 1000
"""Read of a question; the model's memory grows with the square of its length."""
MOST_STEPS = 40
"""Written at a time, so that prompt and answer fit the model's context."""
ITEM = re.compile(r"^\s*\d+[.)]\s*(.+)$")


@torch.inference_mode()
def outline(goal: str, count: int) -> list[str]:
    """Return at most ``count`` actions, by greedy decoding; the same question gives the same steps."""
    count = min(count, MOST_STEPS)
    language, asked = _language(), " ".join(goal.split())[:GOAL_CHARACTERS]
    ids = language.ids(PROMPT.format(goal=asked, count=count))
    made = language.model.generate(  # type: ignore[operator]
        torch.tensor([ids]), max_new_tokens=TOKENS_A_STEP * count, do_sample=False,
        repetition_penalty=1.1, pad_token_id=language.end, eos_token_id=language.end,
    )  # fmt: skip
    text = "1." + language.words(made[0, len(ids) :].tolist())
    found = [match[1].strip() for line in text.splitlines() if (match := ITEM.match(line))]
    # The last line may be cut off.
    whole = [step for step in dict.fromkeys(found) if step.endswith((".", "!"))]
    return (whole or found)[:count]


@functools.cache
def _language() -> Language:
    return load_backbone(config.Backbone(kind="smollm2", train="frozen"))
