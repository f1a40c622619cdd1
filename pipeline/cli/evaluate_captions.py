"""Measure the captions of datasets.

Writes evaluation.md and evaluation.json into --out: length, style, repetition and agreement with screen
and speech of all captions; coverage and hallucination of a sample by a judge, or by people. Of several
datasets of the same clips, the later ones are also compared with the first, clip by clip.

Exit codes: 0 done; 1 failed; 2 bad usage or configuration.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from models.errors import UsageError
from pipeline.cli.judge import RATING, add_evaluation_options, check_judge, judge_client
from pipeline.platform.command import DONE, Commands, add_command, local_folder, positive

if TYPE_CHECKING:
    from pipeline.captions.dataset import CaptionedClip, Captions
    from pipeline.captions.frames import Shown
    from pipeline.evaluation.figures import Figure


def add(kinds: Commands) -> None:
    """Register the command below ``evaluate``."""
    parser = add_command(kinds, "captions", __doc__, _evaluate)
    parser.add_argument(
        "datasets", nargs="*", type=local_folder, metavar="DATASET", help="an OUTPUT of `curate`"
    )
    parser.add_argument(
        "--clips", type=positive, default=64, metavar="N",
        help="for the judge or the sheet, at most so many of each dataset (%(default)s)",
    )  # fmt: skip
    add_evaluation_options(parser)
    parser.add_argument("--human", action="store_true", help=f"write a blind sheet into --out/{RATING}")


def _evaluate(parsed: argparse.Namespace) -> int:
    _check(parsed)
    _run(parsed)
    return DONE


def _check(parsed: argparse.Namespace) -> None:
    if not parsed.datasets and not parsed.ratings:
        raise UsageError("nothing to measure: name a DATASET, or --ratings FILE")
    if parsed.human and parsed.ratings:
        raise UsageError("--human writes a new sheet, --ratings scores one: one after the other")
    for option in ("judge", "human"):
        if getattr(parsed, option) and not parsed.datasets:
            raise UsageError(f"--{option} wants a DATASET")
    check_judge(parsed)


def _run(parsed: argparse.Namespace) -> None:
    from pipeline.captions.checks import check_figures
    from pipeline.captions.dataset import common_keys, read_captions
    from pipeline.evaluation.figures import TABLE, as_markdown, write

    datasets = read_captions(parsed.datasets)
    facts: dict[str, Any] = {
        "captions": ", ".join(f"{each.name} {len(each.clips)}" for each in datasets) or "none",
        "seed": parsed.seed,
    }
    if len(datasets) > 1:
        facts["clips in common"] = len(common_keys(datasets))
    figures = [figure for each in datasets for figure in check_figures(each, seed=parsed.seed)]
    if parsed.judge or parsed.human:
        figures += _sampled(parsed, datasets)
    if parsed.ratings:
        # What looks at pictures takes seconds to import; the checks must not pay for it.
        from pipeline.captions.sheet import rated_figures
        from pipeline.evaluation.rating_sheet import KEY

        figures += rated_figures(parsed.ratings, parsed.out / RATING / KEY, seed=parsed.seed)
    write(figures, parsed.out, facts=facts)
    print(as_markdown(figures, facts=facts))
    print(parsed.out / TABLE)


def _sampled(parsed: argparse.Namespace, datasets: list[Captions]) -> list[Figure]:
    """Give a sample and its pictures to the judge, and to the sheet for people."""
    from pipeline.captions.dataset import sample
    from pipeline.captions.frames import show
    from pipeline.captions.sheet import write_caption_sheet
    from pipeline.evaluation.rating_sheet import KEY, SHEET

    samples = sample(datasets, parsed.clips, seed=parsed.seed)
    shown = show(datasets, samples)
    if parsed.human:
        folder = parsed.out / RATING
        write_caption_sheet(datasets, samples, shown, folder, seed=parsed.seed)
        print(f"hand out {folder / SHEET}, and keep {KEY} beside it to yourself")
    return _judged(parsed, datasets, samples, shown) if parsed.judge else []


def _judged(
    parsed: argparse.Namespace,
    datasets: list[Captions],
    samples: list[list[CaptionedClip]],
    shown: Shown,
) -> list[Figure]:
    from pipeline.captions.judge import judge_captions, judged_differences, judged_figures, write_judgements

    judgements = {}
    with judge_client(parsed, parsed.out) as client:
        for dataset, clips in zip(datasets, samples, strict=True):
            judgements[dataset.name] = judge_captions(clips, shown, client)
    write_judgements(judgements, parsed.out)
    model, seed = parsed.judge_model, parsed.seed
    figures = [
        figure
        for name, some in judgements.items()
        for figure in judged_figures(name, some, judge=model, seed=seed)
    ]
    return [*figures, *judged_differences(judgements, judge=model, seed=seed)]
