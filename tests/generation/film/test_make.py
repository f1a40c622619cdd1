"""A film is made, goes on after a kill, and is edited; nothing is made twice."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from generation import config
from generation.core.states import Picture
from generation.encoders.pictures import fitted
from generation.film.footage import clip_frames, write_clip
from generation.film.make import FilmCancelled, FilmEvent, FilmResult, make_film
from generation.film.parts import FilmModels, Retriever
from generation.film.plan import FilmError, FirstStep, Request
from generation.film.stills import PictureError, read_picture
from tests.support.film_parts import FRAMES, Decoder, Encoder, Planner, Renderer

GOAL = "How to make spring rolls?"
OPTIONS = config.Recipe(film=config.Film(upscale_px=64))


@dataclass
class Studio:
    """The parts of a film, and what they did."""

    director: Planner = field(default_factory=Planner)
    generator: Renderer = field(default_factory=Renderer)
    decoder: Decoder = field(default_factory=Decoder)

    def make(
        self,
        out: Path,
        goal: str = GOAL,
        options: config.Recipe = OPTIONS,
        identity: Mapping[str, str] | None = None,
        retriever: Retriever | None = None,
        **more: Any,
    ) -> FilmResult:
        of_request = {name: more.pop(name) for name in ("seed", "steps", "first", "edit") if name in more}
        models = FilmModels(
            director=self.director, generator=self.generator, decoder=self.decoder, encoder=Encoder(),
            retriever=retriever, condition=options.generator.condition, fps=options.generator.fps,
            identity=identity or {},
        )  # fmt: skip
        return make_film(Request(goal=goal, **of_request), models, out, options=options.film, **more)

    @property
    def work(self) -> int:
        return len(self.director.log) + len(self.generator.log) + len(self.decoder.log)


def contents(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()
    }


def plan_of(out: Path) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads((out / "plan.json").read_text())
    return tree


def test_a_film_has_chapters_subtitles_and_every_file_of_its_plan(tmp_path: Path) -> None:
    result = Studio().make(tmp_path / "film", steps=3)

    plan = plan_of(tmp_path / "film")
    assert plan["goal"] == GOAL and plan["complete"] and plan["film"] == "film.mp4"
    actions = [step["action"] for step in plan["steps"]]
    assert len(actions) == 3
    clip_s = FRAMES / OPTIONS.generator.fps
    with av.open(result.path) as film:
        assert film.metadata["title"] == GOAL
        chapters = film.chapters()
        assert [chapter["metadata"]["title"] for chapter in chapters] == [
            f"{number}. {action}" for number, action in enumerate(actions, start=1)
        ]
        starts = [float(chapter["start"] * chapter["time_base"]) for chapter in chapters]
        assert starts == pytest.approx([0, clip_s, 2 * clip_s], abs=0.002)
        texts = [bytes(packet)[2:].decode() for packet in film.demux(film.streams.subtitles[0])]
        assert [text for text in texts if text] == [f"{s['action']}\n{s['caption']}" for s in plan["steps"]]
    with av.open(result.path) as film:
        times = [frame.time for frame in film.decode(film.streams.video[0])]
    fps = OPTIONS.generator.fps
    assert times == pytest.approx([number / fps for number in range(3 * FRAMES)], abs=0.002)
    for step in plan["steps"]:
        for name in (step["state"], step["keyframe"], *step["clips"]):
            assert (tmp_path / "film" / name).is_file()
        assert step["end_s"] - step["start_s"] == pytest.approx(clip_s, abs=0.002)
    subtitles = (tmp_path / "film" / "film.srt").read_text()
    assert all(f"{n}\n" in subtitles for n in (1, 2, 3)) and all(action in subtitles for action in actions)
    with Image.open(tmp_path / "film" / "contact_sheet.png") as sheet:
        assert sheet.width > 4 * 100 and sheet.height > 3 * 100
    assert read_picture((tmp_path / "film" / "keyframes/step-01.png").read_bytes()).shape == (32, 32, 3)


def test_film_holds_the_frames_of_its_clips_in_order(tmp_path: Path) -> None:
    result = Studio().make(tmp_path, steps=2)
    clips = [frame for n in (1, 2) for frame in clip_frames(tmp_path / f"clips/step-0{n}.mp4")]
    film = clip_frames(result.path)
    assert len(film) == len(clips) == 2 * FRAMES
    assert all(np.array_equal(*pair) for pair in zip(film, clips, strict=True))


def test_the_same_command_again_makes_nothing(tmp_path: Path) -> None:
    first = Studio().make(tmp_path, seed=3)
    assert {kind for kind, _ in first.made} == {"plan", "keyframe", "clip", "film"}
    before, again = contents(tmp_path), Studio()

    assert again.make(tmp_path, seed=3).made == ()
    assert again.work == 0 and contents(tmp_path) == before


def test_a_run_killed_anywhere_goes_on_to_the_same_film(tmp_path: Path) -> None:
    whole, events = Studio(), list[FilmEvent]()
    whole.make(tmp_path / "whole", on_event=events.append)

    for stop_after in range(1, len(events)):
        out, seen = tmp_path / str(stop_after), list[FilmEvent]()

        def killed(event: FilmEvent, seen: list[FilmEvent] = seen, last: int = stop_after) -> None:
            seen.append(event)
            if len(seen) == last:
                raise KeyboardInterrupt

        first, second = Studio(), Studio()
        with pytest.raises(KeyboardInterrupt):
            first.make(out, on_event=killed)
        second.make(out)
        assert first.work + second.work == whole.work, f"work was lost or done twice at {seen[-1]}"
        assert contents(out) == contents(tmp_path / "whole")


def test_a_torn_or_missing_file_is_made_again(tmp_path: Path) -> None:
    Studio().make(tmp_path)
    whole = contents(tmp_path)
    (tmp_path / "clips/step-02.mp4").write_bytes(b"torn")
    (tmp_path / "keyframes/step-03.png").write_bytes(b"")
    (tmp_path / "film.srt").unlink()
    made = Studio().make(tmp_path).made
    assert set(made) == {("keyframe", 3), ("clip", 2), ("film", 0)}
    assert contents(tmp_path) == whole


def test_an_edit_makes_again_only_what_depends_on_it(tmp_path: Path) -> None:
    Studio().make(tmp_path)
    old, before = plan_of(tmp_path), contents(tmp_path)
    studio = Studio()
    result = studio.make(tmp_path, edit=(3, "Fry the rolls"))
    new, after = plan_of(tmp_path), contents(tmp_path)

    assert new["steps"][2]["action"] == "Fry the rolls"
    assert new["steps"][2]["caption"] == "Hands that fry the rolls"
    for at in (0, 1, 3):
        assert [new["steps"][at][text] for text in ("action", "caption")] == [
            old["steps"][at][text] for text in ("action", "caption")
        ]
    assert studio.director.log == ["state 3", "state 4"]
    assert len(studio.generator.log) == 2
    for kind, ending in (("states", "safetensors"), ("keyframes", "png"), ("clips", "mp4")):
        same = [
            before[f"{kind}/step-0{n}.{ending}"] == after[f"{kind}/step-0{n}.{ending}"] for n in range(1, 5)
        ]
        assert same == [True, True, False, False]
    assert ("film", 0) in result.made
    # The edit stays, whether it is repeated or not.
    assert Studio().make(tmp_path, edit=(3, "Fry the rolls")).made == ()
    assert Studio().make(tmp_path).made == ()


def test_an_edit_that_only_touches_captions_keeps_the_other_clips(tmp_path: Path) -> None:
    """Where captions alone condition the generator, a new state is no reason for a new clip."""
    options = config.Recipe(
        film=OPTIONS.film,
        generator=config.GeneratorSettings(condition="caption", text=config.TextEncoder()),
    )
    Studio().make(tmp_path, options=options)
    studio = Studio()
    studio.make(tmp_path, options=options, edit=(2, "Soak the rice paper"))
    assert len(studio.generator.log) == 1 and "Soak the rice paper" in studio.generator.log[0]


def test_other_weights_make_their_part_again(tmp_path: Path) -> None:
    old = {"director": "a", "generator": "b", "decoder": "c"}
    Studio().make(tmp_path, identity=old)
    kinds = lambda **new: {kind for kind, _ in Studio().make(tmp_path, identity=old | new).made}  # noqa: E731
    assert kinds(generator="b2") == {"clip", "film"}
    assert kinds(generator="b2", decoder="c2") == {"keyframe"}
    assert kinds(generator="b2", decoder="c2", director="a2") >= {"plan"}
    Studio().make(tmp_path, identity=old)
    Studio().make(tmp_path, identity=old, edit=(1, "Wash the herbs"))
    with pytest.raises(FilmError, match="edited steps by another director"):
        Studio().make(tmp_path, identity=old | {"director": "a3"})


@dataclass
class Rolling(Decoder):
    """Paints in view of earlier pictures, and of a light that no key knows of."""

    memory: int = 1
    light: float = 0.0

    def decode_next(self, z: Tensor, earlier: Sequence[Picture], *, seed: int) -> Picture:
        assert len(earlier) <= self.memory
        seen = sum(int(picture.sum()) for picture in earlier) if earlier else self.light
        return super().decode_next(z + seen, earlier, seed=seed)


@pytest.mark.parametrize(("memory", "expected"), [(0, [1]), (1, [1, 2, 3])])
def test_a_key_frame_is_made_again_when_those_that_its_decoder_saw_are_others(
    memory: int, expected: list[int], tmp_path: Path
) -> None:
    Studio(decoder=Rolling(memory=memory)).make(tmp_path, steps=3)
    assert Studio(decoder=Rolling(memory=memory)).make(tmp_path, steps=3).made == ()
    (tmp_path / "keyframes/step-01.png").unlink()
    made = Studio(decoder=Rolling(memory=memory)).make(tmp_path, steps=3).made
    assert made == (("keyframe", 1),)
    (tmp_path / "keyframes/step-01.png").unlink()
    made = Studio(decoder=Rolling(memory=memory, light=1.0)).make(tmp_path, steps=3).made
    assert [step for kind, step in made if kind == "keyframe"] == expected


def test_first_step_with_a_picture(tmp_path: Path) -> None:
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24, 8:56], picture[:, :8], picture[:, 56:] = (200, 90, 30), 255, 255
    first = FirstStep(text="Soak the rice paper", picture=picture)
    with_picture, without = Studio(), Studio()
    with_picture.make(tmp_path / "a", first=first)
    without.make(tmp_path / "b", first=FirstStep(text=first.text))

    plan = plan_of(tmp_path / "a")
    assert plan["steps"][0]["action"] == first.text and plan["steps"][0]["caption"]
    # Its state is the picture's, not the director's.
    assert with_picture.director.log == ["state 2", "state 3", "state 4"]
    assert without.director.log == ["state 1", "state 2", "state 3", "state 4"]
    keyframe = read_picture((tmp_path / "a/keyframes/step-01.png").read_bytes()).astype(int)
    assert np.abs(keyframe[:15] - (200, 90, 30)).max() < 8 and keyframe[17:].max() < 8
    # The picture need not be given again, but it may not be another one.
    assert Studio().make(tmp_path / "a").made == ()
    with pytest.raises(FilmError, match="picture"):
        Studio().make(tmp_path / "a", first=FirstStep(text=first.text, picture=255 - picture))


def test_a_long_film_chains_clips_by_their_last_frames(tmp_path: Path) -> None:
    options = config.Recipe(film=config.Film(clips_per_step=2, chain_last_frame=True, upscale_px=32))
    studio = Studio()
    studio.make(tmp_path, options=options, steps=2)
    assert plan_of(tmp_path)["steps"][1]["clips"] == ["clips/step-02.mp4", "clips/step-02-2.mp4"]
    names = ["step-01", "step-01-2", "step-02", "step-02-2"]
    for earlier, later in pairwise(names):
        last = clip_frames(tmp_path / f"clips/{earlier}.mp4")[-1].astype(int)
        start = clip_frames(tmp_path / f"clips/{later}.mp4")[0].astype(int)
        assert np.abs(last - start).mean() < 10
    again = Studio()
    assert again.make(tmp_path, options=options, steps=2).made == ()
    # A later clip hangs on an earlier one: the chain is made again from where it broke.
    (tmp_path / "clips/step-01-2-last.png").unlink()
    again.make(tmp_path, options=options, steps=2)
    assert len(again.generator.log) == 1


def test_clips_of_an_odd_size_are_scaled_to_an_even_one(tmp_path: Path) -> None:
    video = np.full((3, 49, 65, 3), 90, np.uint8)
    write_clip(tmp_path / "clip.mp4", video, fps=4, short_side_px=32, key="key")
    frames = clip_frames(tmp_path / "clip.mp4")
    assert len(frames) == 3 and frames[0].shape == (48, 64, 3)


def test_a_first_picture_may_be_a_thin_line(tmp_path: Path) -> None:
    line = np.full((400, 1, 3), 90, np.uint8)
    result = Studio().make(tmp_path, first=FirstStep(text="Wash the rice", picture=line), steps=1)
    assert result.path.is_file()
    assert fitted(line[None], 16, 40).shape == (1, 16, 40, 3)


def test_files_of_more_than_99_steps_are_swept_by_their_number(tmp_path: Path) -> None:
    Studio().make(tmp_path, steps=2)
    stale = tmp_path / "clips/step-100-last.png"
    foreign = tmp_path / "clips/step-by-step.txt"
    for path in (stale, foreign):
        path.write_bytes(b"")
    Studio().make(tmp_path, steps=2)
    assert not stale.exists() and foreign.exists()


def test_a_run_that_was_killed_before_its_first_plan_goes_on(tmp_path: Path) -> None:
    (tmp_path / ".plan.part.json").write_text("{")
    assert Studio().make(tmp_path, steps=1).path.is_file()


def test_an_empty_goal_is_refused_and_so_are_chained_clips_of_training_clips(tmp_path: Path) -> None:
    with pytest.raises(FilmError, match="goal is empty"):
        Studio().make(tmp_path, goal=" ")
    options = config.Recipe(film=config.Film(chain_last_frame=True))
    with pytest.raises(FilmError, match=r"film\.chain_last_frame"):
        Studio().make(tmp_path, options=options, retriever=cast(Retriever, Renderer()))


def test_cancelling_keeps_what_is_there(tmp_path: Path) -> None:
    seen = list[FilmEvent]()
    with pytest.raises(FilmCancelled):
        Studio().make(tmp_path, on_event=seen.append, cancelled=lambda: len(seen) >= 3)
    assert len(seen) == 3
    rest = Studio()
    result = rest.make(tmp_path)
    assert len(result.made) == 13 - 3


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"goal": "How to boil an egg?"}, "goal"),
        ({"seed": 9}, "--seed"),
        ({"steps": 2}, "--steps"),
        ({"first": FirstStep(text="Wash")}, "--first-step"),
        ({"edit": (9, "Fry")}, "steps 1 to 3"),
        ({"edit": (1, " ")}, "empty"),
    ],
)
def test_what_does_not_fit_the_film_that_is_there_is_refused(
    tmp_path: Path, more: dict[str, Any], message: str
) -> None:
    Studio().make(tmp_path, steps=3)
    before = contents(tmp_path)
    with pytest.raises(FilmError, match=message):
        Studio().make(tmp_path, **more)
    assert contents(tmp_path) == before


def test_strange_folders_and_busy_films_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(FilmError, match="holds no film"):
        Studio().make(tmp_path / "mine")
    with pytest.raises(FilmError, match="another process"):
        Studio().make(tmp_path / "busy", on_event=lambda event: Studio().make(tmp_path / "busy") and None)
    with pytest.raises(FilmError, match="without --edit first"):
        Studio().make(tmp_path / "new", edit=(1, "Fry"))


def png(image: Image.Image, form: str = "PNG", **more: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, form, **more)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_pictures_of_the_closed_list_are_read(form: str) -> None:
    picture = read_picture(png(Image.new("RGB", (20, 10), (200, 30, 30)), form))
    assert picture.shape == (10, 20, 3) and np.abs(picture[5, 5].astype(int) - [200, 30, 30]).max() < 8


def test_a_turned_photo_is_upright_and_transparency_is_white() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_picture(png(Image.new("RGB", (20, 10)), "JPEG", exif=exif)).shape == (20, 10, 3)
    assert (read_picture(png(Image.new("RGBA", (4, 4), (0, 0, 0, 0)))) == 255).all()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (png(Image.new("RGB", (8, 8)), "GIF"), "none of PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "none of PNG"),
        (png(Image.effect_noise((64, 64), 50))[:600], "damaged"),
        (png(Image.new("1", (8000, 8000))), "8000 x 8000 pixels, at most"),
        (b"", "none of PNG"),
    ],
)
def test_other_pictures_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(PictureError, match=message):
        read_picture(data)


@dataclass
class Meeting(Renderer):
    """A generator whose calls wait for each other, so that they must be made at the same time."""

    barrier: threading.Barrier = field(default_factory=lambda: threading.Barrier(2, timeout=20))

    def render(self, *given: Any, **more: Any) -> Any:
        self.barrier.wait()
        return super().render(*given, **more)


@dataclass
class Patient(Planner):
    """A director that does not write its last step before a clip of the first was begun."""

    begun: threading.Event = field(default_factory=threading.Event)

    def plan(self, goal: str, *, steps: int | None, given: Sequence[Any], seed: int) -> Iterator[Any]:
        for number, step in enumerate(super().plan(goal, steps=steps, given=given, seed=seed), start=1):
            assert number != steps or self.begun.wait(20)
            yield step


def test_clips_are_rendered_side_by_side_while_the_plan_is_written(tmp_path: Path) -> None:
    alone = Studio()
    alone.make(tmp_path / "alone", steps=4)
    director = Patient()
    events: list[FilmEvent] = []

    def seen(event: FilmEvent) -> None:
        events.append(event)
        if event.kind == "clip":
            director.begun.set()

    together = Studio(director=director, generator=Meeting())
    together.make(tmp_path / "together", steps=4, renderers=2, on_event=seen)
    assert contents(tmp_path / "together") == contents(tmp_path / "alone")
    assert {(event.kind, event.step) for event in events} >= {("clip", step) for step in (1, 2, 3, 4)}


def test_one_failing_clip_ends_the_film_and_its_error_is_raised(tmp_path: Path) -> None:
    class Failing(Renderer):
        def render(self, caption: str, *given: Any, **more: Any) -> Any:
            if "part 2" in caption:
                raise OSError("no memory")
            return super().render(caption, *given, **more)

    with pytest.raises(OSError, match="no memory"):
        Studio(generator=Failing()).make(tmp_path, steps=3, renderers=2)
    Studio().make(tmp_path, steps=3, renderers=2)


def test_chained_clips_begin_while_the_plan_is_written_and_stay_in_order(tmp_path: Path) -> None:
    options = config.Recipe(film=config.Film(upscale_px=64, chain_last_frame=True))
    Studio().make(tmp_path / "alone", steps=3, options=options)
    Studio().make(tmp_path / "together", steps=3, options=options, renderers=3)
    assert contents(tmp_path / "together") == contents(tmp_path / "alone")


def test_an_edited_plan_lists_no_picture_of_before(tmp_path: Path) -> None:
    Studio().make(tmp_path, steps=3)

    def stop() -> bool:
        return True

    with pytest.raises(FilmCancelled):
        Studio().make(tmp_path, edit=(2, "Fry it"), cancelled=stop)
    steps = plan_of(tmp_path)["steps"]
    assert [bool(step["keyframe"]) for step in steps] == [True, False, False]
    assert [len(step["clips"]) for step in steps] == [1, 0, 0]
