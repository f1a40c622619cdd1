"""Write a trained model for diffusers, peft and vLLM.

Adapters: pipeline.load_lora_weights(OUT/transformer) and PeftModel.from_pretrained(base, OUT). Exit
codes: 0 done; 2 bad usage or configuration.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.platform.command import DONE, Commands, add_command, folder_to_write


def add(kinds: Commands) -> None:
    """Register the command below ``export``."""
    parser = add_command(kinds, "model", __doc__, _export)
    parser.add_argument("models", metavar="MODELS", type=Path, help="what `train` wrote")
    parser.add_argument("kind", choices=("director", "generator", "decoder"))
    parser.add_argument("out", metavar="OUT", type=folder_to_write, help="a new folder")


def _export(parsed: argparse.Namespace) -> int:
    from generation.export import export_model

    for folder in export_model(parsed.models, parsed.kind, parsed.out):
        print(folder)
    return DONE
