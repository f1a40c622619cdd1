"""A film from pretrained weights: a language model plans, image models paint, a video model films.

The trained director and generator of this project replace its parts one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from generation import config
from generation.film.parts import FilmModels
from generation.film.pipelines import LoadedPipeline, PipelineGenerator, StockPainter
from generation.film.plan import ANSWERS
from generation.film.planner import EndpointDirector
from models import llamacpp, weights
from models.language import Endpoint, LanguageClient
from models.server import Server
from pipeline.platform.config import ConfigError
from pipeline.platform.memo import Memo

CONTEXT_TOKENS = 4096
START_S = 120.0


@contextmanager
def stock_models(recipe: config.Recipe, out: Path) -> Iterator[FilmModels]:
    """Load the models of a recipe's section ``stock``; the packaged language model runs as long as this.

    Args:
        out: the film's folder, which also holds the language model's answers.

    Raises:
        ConfigError: the section is missing, or a pipeline does not fit its place.
    """
    options = recipe.stock
    if options is None:
        raise ConfigError("--stock: the recipe has no section stock, with painter and video")
    video = PipelineGenerator(LoadedPipeline(options.video, key="stock.video"), options.video)
    editor = None if options.editor is None else LoadedPipeline(options.editor, key="stock.editor")
    painter = StockPainter(
        LoadedPipeline(options.painter, key="stock.painter"), editor,
        size_px=(options.video.height_px, options.video.width_px), memory=options.memory,
    )  # fmt: skip
    with ExitStack() as stack:
        out.mkdir(parents=True, exist_ok=True)
        memo = stack.enter_context(closing(Memo(out / ANSWERS)))
        client = LanguageClient(_endpoint(options.planner, out, stack), memo, stage="plan")
        director = EndpointDirector(client, steps=options.planner.steps)
        yield FilmModels(
            director=director, generator=video, painter=painter, condition="keyframe",
            fps=options.video.fps,
            identity={
                "director": director.identity, "generator": video.identity, "painter": painter.identity,
            },
        )  # fmt: skip


def _endpoint(options: config.StockPlanner, out: Path, stack: ExitStack) -> Endpoint:
    """Return the endpoint that plans; start the packaged model where none is named."""
    if options.base_url is not None:
        return Endpoint(
            base_url=options.base_url, model=options.model, api_key_env=options.api_key_env,
            schema_form=options.schema_form,
        )  # fmt: skip
    command = llamacpp.command(weights.smollm2(), threads=2, context_tokens=CONTEXT_TOKENS)
    log = out / ANSWERS / "server.log"
    server = stack.enter_context(Server(command, host="127.0.0.1", deadline_s=START_S, log=log))
    return Endpoint(base_url=server.base_url, model="SmolLM2-135M-Instruct", concurrency=1)
