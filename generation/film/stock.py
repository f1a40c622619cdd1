"""A film from pretrained weights: a language model plans, image models paint, a video model films.

The trained director and generator of this project replace its parts one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from generation import config
from generation.film.pipelines import LoadedPipeline, PipelineGenerator, StockPainter
from generation.film.planner import EndpointDirector
from generation.film.trained import DirectorParts, GeneratorParts, PainterParts, recipe_file
from models import llamacpp, weights
from models.language import Endpoint, LanguageClient
from models.server import Server
from pipeline.platform.config import ConfigError, load
from pipeline.platform.memo import Memo

CONTEXT_TOKENS = 4096
START_S = 120.0


@dataclass(frozen=True, slots=True)
class StockModels:
    """The pretrained models of a recipe's section ``stock``; see :class:`generation.film.trained.Models`.

    Attributes:
        chosen: the recipe.
        answers: folder of the language model's answers; made if it is missing.
    """

    chosen: config.Recipe
    answers: Path

    @classmethod
    def named(cls, recipe: str, settings: Sequence[str], answers: Path) -> StockModels:
        """Return the models of a recipe that comes with the project, or of a YAML file.

        Raises:
            ConfigError: there is neither, or a setting is wrong.
        """
        file = recipe_file(recipe, option="--stock")
        return cls(load(file, settings, config.Recipe, option="--stock").config, answers)

    def recipe(self) -> config.Recipe:
        """Return the recipe of films and service.

        Raises:
            ConfigError: it has no section ``stock``.
        """
        self._options()
        return self.chosen

    def plans_at_once(self) -> int:
        """Return how many requests the planner's endpoint may have; it batches them, if it is able to."""
        planner = self._options().planner
        return 1 if planner.base_url is None else planner.concurrency

    def clips_at_once(self, steps: int | None) -> int:
        """Return how many clips of a film of so many steps do not wait for each other."""
        return 1 if self.chosen.film.chain_last_frame else steps or self._options().planner.steps

    def gpus(self) -> int:
        """Return how many GPUs the recipe names."""
        return len({*self._painter_gpus(), self._options().video.gpu})

    def painter_gpus(self) -> int:
        """Return how many of them are for key frames."""
        return len(self._painter_gpus())

    def _painter_gpus(self) -> set[int]:
        options = self._options()
        return {part.gpu for part in (options.painter, options.editor) if part is not None}

    def director(self) -> DirectorParts:
        """Return the language model behind its endpoint; where none is named, start the packaged one."""
        planner = self._options().planner
        self.answers.mkdir(parents=True, exist_ok=True)
        # What was opened is closed if the server does not start.
        with ExitStack() as opened:
            memo = opened.enter_context(closing(Memo(self.answers)))
            client = LanguageClient(self._endpoint(opened), memo, stage="plan")
            resources = opened.pop_all()
        director = EndpointDirector(client, steps=planner.steps)
        identity = {"director": director.identity}
        return DirectorParts(director=director, encoder=None, identity=identity, resources=resources)

    def painter(self) -> PainterParts:
        """Load the models of the first and of the later key frames.

        Raises:
            ConfigError: a pipeline does not fit its place; likewise for the generator.
        """
        options = self._options()
        painter = StockPainter(
            LoadedPipeline(options.painter, key="stock.painter"),
            None if options.editor is None else LoadedPipeline(options.editor, key="stock.editor"),
            size_px=(options.video.height_px, options.video.width_px), memory=options.memory,
        )  # fmt: skip
        return PainterParts(decoder=None, painter=painter, identity={"painter": painter.identity})

    def generator(self) -> GeneratorParts:
        """Load the image-to-video pipeline."""
        options = self._options().video
        generator = PipelineGenerator(LoadedPipeline(options, key="stock.video"), options)
        identity = {"generator": generator.identity}
        return GeneratorParts(generator=generator, condition="keyframe", fps=options.fps, identity=identity)

    def _options(self) -> config.Stock:
        if self.chosen.stock is None:
            raise ConfigError("--stock: the recipe has no section stock, with painter and video")
        return self.chosen.stock

    def _endpoint(self, resources: ExitStack) -> Endpoint:
        """Return the endpoint that plans; start the packaged model where none is named."""
        endpoint = self._options().planner.endpoint()
        if endpoint is not None:
            return endpoint
        command = llamacpp.command(weights.smollm2(), threads=2, context_tokens=CONTEXT_TOKENS)
        log = self.answers / "server.log"
        server = resources.enter_context(Server(command, host="127.0.0.1", deadline_s=START_S, log=log))
        return Endpoint(base_url=server.base_url, model=config.PACKAGED_PLANNER, concurrency=1)
