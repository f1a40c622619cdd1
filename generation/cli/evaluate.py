"""Measure films, director and generator.

Writes evaluation.md and evaluation.json into --out: every figure with its interval over stories, videos
or films, or the reason why it cannot be had.

Exit codes: 0 done; 1 failed; 2 bad usage or configuration.
"""

from __future__ import annotations

import argparse
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from generation.evaluation.films import Film
    from generation.evaluation.inverse import RealClip
    from pipeline.evaluation.figures import Figure

from models.errors import UsageError
from pipeline.cli.judge import RATING, add_evaluation_options, check_judge, judge_client
from pipeline.platform.command import DONE, Commands, add_command, positive


def add(kinds: Commands) -> None:
    """Register the command below ``evaluate``."""
    parser = add_command(kinds, "generation", __doc__, _evaluate)
    parser.add_argument(
        "films", nargs="*", type=Path, metavar="FILM",
        help="folder of a film, or of several; films are compared by the folder around them",
    )  # fmt: skip
    parser.add_argument(
        "--models", type=Path, metavar="DIR", help="what `train` wrote: measure these models"
    )
    parser.add_argument(
        "--features", type=Path, metavar="DIR",
        help="held-out stories and clips; default: those in --models, which it was trained on",
    )  # fmt: skip
    parser.add_argument("--stories", type=positive, default=64, metavar="N", help="at most (%(default)s)")
    parser.add_argument("--clips", type=positive, default=64, metavar="N", help="at most (%(default)s)")
    parser.add_argument("--clip", type=Path, metavar="DIR", help="a CLIP or SigLIP, for CLIP-T and CLIP-I")
    parser.add_argument("--videomae", type=Path, metavar="DIR", help="a VideoMAE, for FVD")
    add_evaluation_options(parser)
    parser.add_argument(
        "--rating-sheet", action="store_true", help=f"write a blind sheet for people into --out/{RATING}"
    )


def _evaluate(parsed: argparse.Namespace) -> int:
    _check(parsed)
    _run(parsed)
    return DONE


def _check(parsed: argparse.Namespace) -> None:
    if not parsed.films and parsed.models is None and not parsed.ratings:
        raise UsageError("nothing to measure: name films, --models DIR, or --ratings FILE")
    if parsed.features is not None and parsed.models is None:
        raise UsageError("--features goes with --models: the features are for those models")
    check_judge(parsed)
    for option in ("judge", "rating_sheet"):
        if getattr(parsed, option) and not parsed.films:
            raise UsageError(f"--{option.replace('_', '-')} wants films")
    for option in ("models", "features", "clip", "videomae"):
        folder = getattr(parsed, option)
        if folder is not None and not folder.is_dir():
            raise UsageError(f"--{option} {folder}: no such folder")


def _run(parsed: argparse.Namespace) -> None:
    from generation.evaluation.film_sheet import rated_figures, write_film_sheet
    from generation.evaluation.films import find_films
    from pipeline.evaluation.figures import TABLE, as_markdown, write
    from pipeline.evaluation.rating_sheet import KEY, SHEET

    films = find_films(parsed.films)
    systems = groupby(sorted(films, key=lambda film: film.system), lambda film: film.system)
    figures: list[Figure] = []
    if films or parsed.models is not None:
        tools = _Tools(parsed)
        if parsed.models is not None:
            figures += _of_models(parsed, tools)
        for system, some in systems:
            figures += _of_films(parsed, tools, f"films {system}", list(some))
    if parsed.ratings:
        figures += rated_figures(parsed.ratings, parsed.out / RATING / KEY, seed=parsed.seed)
    elif parsed.rating_sheet:
        write_film_sheet(films, parsed.out / RATING, seed=parsed.seed)
        print(f"hand out {parsed.out / RATING / SHEET}, and keep {KEY} beside it to yourself")
    facts: dict[str, Any] = {
        "films": len(films),
        "models": str(parsed.models or "none"),
        "features": str(parsed.features or "those that the models were trained on")
        if parsed.models
        else "none",
        "seed": parsed.seed,
    }
    write(figures, parsed.out, facts=facts)
    print(as_markdown(figures, facts=facts))
    print(parsed.out / TABLE)


class _Tools:
    """The networks that figures need, each loaded once."""

    def __init__(self, parsed: argparse.Namespace) -> None:
        from generation.config import Recipe
        from generation.core.states import Statistics
        from generation.encoders.factory import load_encoder
        from generation.evaluation.networks import VideoFeatures, VideoMae, VideoNetwork
        from generation.evaluation.text_image import ClipModel
        from pipeline.platform.config import load

        recipe, self.statistics = None, None
        for role in ("director", "generator") if parsed.models else ():
            if (parsed.models / role / "recipe.yaml").is_file():
                recipe = parsed.models / role / "recipe.yaml"
                self.statistics = Statistics.load(parsed.models / role / "statistics.safetensors")
        if parsed.models and recipe is None:
            raise UsageError(
                f"--models {parsed.models}: holds neither director/recipe.yaml nor generator/recipe.yaml"
            )
        self.encoder = load_encoder(load(recipe, (), Recipe).config.state)
        self.real: list[RealClip] = []
        try:
            self.clip = None if parsed.clip is None else ClipModel(parsed.clip)
            self.videos: list[VideoNetwork] = [VideoFeatures(self.encoder)]
            if parsed.videomae is not None:
                self.videos.append(VideoMae(parsed.videomae))
        except (ValueError, OSError) as error:
            raise UsageError(f"--clip or --videomae: {error}") from error


def _of_models(parsed: argparse.Namespace, tools: _Tools) -> list[Figure]:
    from generation.evaluation.inverse import Instruments, inverse_figures, read_clips
    from generation.evaluation.planning import director_figures, foresee
    from generation.evaluation.tables import read_rows
    from generation.store import load_director, load_generator
    from pipeline.evaluation.figures import missing

    features = parsed.features or parsed.models / "features"
    figures, foreseen = [], {}
    if (parsed.models / "director").is_dir():
        director = load_director(parsed.models)
        stories = read_rows(features, "stories", parsed.stories)
        figures += director_figures(director, stories, seed=parsed.seed)
        foreseen = foresee(director, stories, seed=parsed.seed)
    else:
        figures.append(missing("director", "all", f"{parsed.models} has no director"))
    if not (parsed.models / "generator").is_dir():
        return [*figures, missing("generator", "all", f"{parsed.models} has no generator")]
    assert tools.statistics is not None
    generator = load_generator(parsed.models)
    clips = tools.real = read_clips(read_rows(features, "clips", parsed.clips), generator)
    instruments = Instruments(
        pictures=tools.encoder, statistics=tools.statistics, videos=tools.videos, clip=tools.clip
    )
    figures += inverse_figures(generator, clips, foreseen, instruments, seed=parsed.seed)
    if parsed.videomae is None:
        figures.append(missing("generator", "FVD", "no VideoMAE given: --videomae DIR"))
    return figures


def _of_films(parsed: argparse.Namespace, tools: _Tools, of: str, films: list[Film]) -> list[Figure]:
    from generation.evaluation.films import film_figures
    from generation.evaluation.judge import SCALES, judge, judged_figures, scale_name
    from pipeline.evaluation.figures import missing

    figures = film_figures(
        films, network=tools.encoder, statistics=tools.statistics, clip=tools.clip, seed=parsed.seed
    )
    figures += _film_distances(tools, of, films, parsed.seed)
    if not parsed.ratings:
        why = "no ratings given: --rating-sheet, then --ratings FILE"
        figures += [missing(of, scale_name(scale, "rated"), why) for scale in SCALES]
    if parsed.judge is None:
        why = "no judge given: --judge URL --judge-model NAME"
        return [*figures, *(missing(of, scale_name(scale, "judged"), why) for scale in SCALES)]
    with judge_client(parsed, parsed.out) as client:
        judgements = judge(films, client)
    return [*figures, *judged_figures(of, judgements, judge=parsed.judge_model, seed=parsed.seed)]


def _film_distances(tools: _Tools, of: str, films: list[Film], seed: int) -> list[Figure]:
    from generation.evaluation.inverse import distance
    from pipeline.evaluation.figures import missing

    if not tools.real:
        why = "no real clips to compare with: --models DIR, with a generator"
        return [missing(of, network.distance, why) for network in tools.videos]
    made = [(film.name, shot.video) for film in films for shot in film.shots]
    return [
        distance(
            of,
            network,
            network.features([video for _, video in made]),
            network.features([clip.video for clip in tools.real]),
            [name for name, _ in made],
            [clip.video_id for clip in tools.real],
            seed=seed,
        )
        for network in tools.videos
    ]
