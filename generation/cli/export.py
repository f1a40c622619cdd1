"""``videoauteur export model``: a trained model for other libraries."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.platform.command import DONE, Commands


def add(kinds: Commands) -> None:
    """Register the command below ``export``."""
    parser = kinds.add_parser(
        "model",
        help="a trained model for diffusers, peft and vLLM",
        epilog="Adapters: pipeline.load_lora_weights(OUT/transformer) and "
        "PeftModel.from_pretrained(base, OUT). Exit codes: 0 done; 2 bad usage or configuration.",
    )
    parser.add_argument("models", metavar="MODELS", type=Path, help="what `train` wrote")
    parser.add_argument("kind", choices=("director", "generator"))
    parser.add_argument("out", metavar="OUT", type=Path, help="a new folder")
    parser.set_defaults(run=_export)


def _export(parsed: argparse.Namespace) -> int:
    from generation.export import export_model

    for folder in export_model(parsed.models, parsed.kind, parsed.out):
        print(folder)
    return DONE
