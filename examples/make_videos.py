"""Make a folder of small how-to videos to try the curation on.

``python -m examples.make_videos DIR`` draws them, speaks them and encodes them from nothing, so
they are free of others' rights and every cut and sentence in them is known:

- ``soup.mp4``, ``cookies.mp4``: two narrated recipes; the first begins with a greeting, no step;
- ``salad_watermarked.mp4``: a third, under a channel's badge and name;
- ``pancakes_silent.mp4``: a fourth, without an audio stream;
- ``broken.mp4``: the first half of ``soup.mp4``, which no reader can open.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from examples.drawing import Watermark, cloth, stone, tiles, wood
from examples.kitchen import (
    Table,
    Vessel,
    baking,
    chopping,
    dropping,
    flipping,
    greeting,
    placing,
    pouring,
    serving,
    sprinkling,
    stirring,
)
from examples.media import Scene, Truth, write_video

ORANGE, GREEN, RED, CREAM = (226, 118, 40), (112, 164, 72), (206, 58, 48), (242, 230, 190)
BROTH, OIL, FLOUR, BATTER = (216, 146, 62), (226, 192, 72), (238, 232, 220), (234, 190, 110)
DOUGH, BAKED, CHOCOLATE = (226, 192, 142), (204, 142, 82), (96, 60, 42)
WHITE, WATER = (252, 252, 252), (150, 190, 210)

IRON_PAN = Vessel((50, 50, 56), (82, 78, 76), handles=1)
STEEL_POT = Vessel((150, 156, 164), (112, 114, 120), handles=2)
RED_POT = Vessel((192, 60, 50), BROTH, handles=2)
WHITE_BOWL = Vessel((240, 240, 236), BROTH)
BLUE_BOWL = Vessel((70, 110, 170), DOUGH)
GLASS_BOWL = Vessel((176, 204, 210), (206, 222, 222))

SOUP = (
    Scene(duration_s=6.0, sentence="Hi everyone, welcome back. Today we are making vegetable soup.",
          picture=greeting(1, (150, 190, 180), (70, 110, 170))),
    Scene(duration_s=6.0, sentence="First, chop the onion and the carrot into small pieces.",
          picture=chopping(Table(2, stone, (150, 155, 160)), ORANGE, (246, 172, 84))),
    Scene(duration_s=5.5, sentence="Now heat some olive oil in a large pot.",
          picture=pouring(Table(3, wood, (150, 105, 70)), STEEL_POT, OIL)),
    Scene(duration_s=6.5, sentence="Add the vegetables and cook them for five minutes.",
          picture=dropping(Table(4, cloth, (180, 60, 60)), IRON_PAN, [ORANGE, CREAM, GREEN])),
    Scene(duration_s=6.5, sentence="Pour in the water and stir the soup with a wooden spoon.",
          picture=stirring(Table(5, wood, (196, 160, 118)), RED_POT, [ORANGE, GREEN, CREAM])),
    Scene(duration_s=6.0, sentence="Finally, add some salt and pepper and serve it hot.",
          picture=sprinkling(Table(6, tiles, (120, 160, 190)), WHITE_BOWL, WHITE, [ORANGE, GREEN])),
)  # fmt: skip

COOKIES = (
    Scene(duration_s=6.0, sentence="First, mix the butter and the sugar in a big bowl.",
          picture=stirring(Table(11, cloth, (90, 150, 100)), BLUE_BOWL, [CREAM, OIL, CREAM])),
    Scene(duration_s=5.5, sentence="Then add two cups of flour and a little salt.",
          picture=pouring(Table(12, stone, (110, 92, 84)), GLASS_BOWL, FLOUR)),
    Scene(duration_s=6.0, sentence="Next, drop the chocolate chips into the bowl.",
          picture=dropping(Table(13, wood, (206, 170, 128)), BLUE_BOWL, [CHOCOLATE])),
    Scene(duration_s=7.5, sentence="Roll the dough into small balls and put them on the baking tray.",
          picture=placing(Table(14, cloth, (70, 110, 170)), DOUGH)),
    Scene(duration_s=7.0, sentence="Slide the tray into the oven and bake for twelve minutes.",
          picture=baking(Table(15, tiles, (212, 200, 166)), DOUGH)),
    Scene(duration_s=5.5, sentence="Let the cookies cool down before you eat them.",
          picture=serving(Table(16, wood, (120, 80, 56)), (232, 234, 240), [BAKED, CHOCOLATE])),
)  # fmt: skip

SALAD = (
    Scene(duration_s=5.5, sentence="Wash the tomatoes under cold water.",
          picture=pouring(Table(21, tiles, (170, 200, 170)), STEEL_POT, WATER, [RED, RED, GREEN])),
    Scene(duration_s=6.0, sentence="Cut the tomatoes and the cucumber into thin slices.",
          picture=chopping(Table(22, cloth, (200, 160, 70)), RED, (236, 120, 96))),
    Scene(duration_s=6.0, sentence="Put everything into a large salad bowl.",
          picture=dropping(Table(23, wood, (130, 88, 60)), GLASS_BOWL, [RED, GREEN, CREAM])),
    Scene(duration_s=6.0, sentence="Add some black pepper and a little olive oil.",
          picture=sprinkling(Table(24, stone, (190, 186, 176)), GLASS_BOWL, (70, 60, 50), [GREEN, RED])),
    Scene(duration_s=5.5, sentence="Mix the salad well and enjoy your meal.",
          picture=stirring(Table(25, tiles, (110, 130, 170)), GLASS_BOWL, [GREEN, RED, CREAM])),
)  # fmt: skip

PANCAKES = (
    Scene(duration_s=5.5, picture=pouring(Table(31, stone, (160, 150, 136)), IRON_PAN, BATTER)),
    Scene(duration_s=6.0, picture=flipping(Table(32, tiles, (196, 120, 100)), IRON_PAN, BATTER)),
    Scene(duration_s=5.5,
          picture=serving(Table(33, cloth, (120, 90, 150)), (236, 226, 206), [BATTER, RED])),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoVideo:
    """One film of the demonstration and how it is encoded (see ``write_video``)."""

    scenes: Sequence[Scene]
    width_px: int
    height_px: int
    fps: int | Fraction
    audio: bool = True
    watermark: Watermark | None = None

    def write(self, path: Path) -> Truth:
        """Write the film; raises what ``write_video`` raises."""
        return write_video(
            path,
            self.scenes,
            width_px=self.width_px,
            height_px=self.height_px,
            fps=self.fps,
            audio=self.audio,
            watermark=self.watermark,
        )


DEMO: Mapping[str, DemoVideo] = {
    "soup.mp4": DemoVideo(scenes=SOUP, width_px=480, height_px=360, fps=15),
    "cookies.mp4": DemoVideo(scenes=COOKIES, width_px=480, height_px=270, fps=Fraction(24000, 1001)),
    "salad_watermarked.mp4": DemoVideo(
        scenes=SALAD, width_px=480, height_px=360, fps=12, watermark=Watermark("HomeCook")
    ),
    "pancakes_silent.mp4": DemoVideo(scenes=PANCAKES, width_px=320, height_px=240, fps=12, audio=False),
}


def make_demo(directory: Path) -> dict[str, Truth]:
    """Write the demonstration into a folder, which is made if it is not there.

    Returns:
        What each readable file holds, by its name; ``broken.mp4`` is not among them.

    Raises:
        OSError: the folder or a file cannot be written.
        RuntimeError: espeak-ng failed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    truths = {name: video.write(directory / name) for name, video in DEMO.items()}
    whole = (directory / "soup.mp4").read_bytes()
    # The index of an mp4 lies at its end, so half a file is as good as none.
    (directory / "broken.mp4").write_bytes(whole[: len(whole) // 2])
    return truths


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 1 failed, 2 bad usage."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.make_videos",
        description="Make a folder of small how-to videos to try the curation on.",
    )
    parser.add_argument("directory", metavar="DIR", type=Path, help="folder to write them into")
    directory: Path = parser.parse_args(arguments).directory
    if directory.exists() and not directory.is_dir():
        parser.error(f"{directory} is a file; name a folder")
    try:
        truths = make_demo(directory)
    except (OSError, RuntimeError) as error:
        print(f"cannot write the videos into {directory}: {error}", file=sys.stderr)
        return 1
    for path in sorted(directory / name for name in (*DEMO, "broken.mp4")):
        truth = truths.get(path.name)
        holds = (
            f"{truth.duration_s:5.1f} s, {len(truth.cuts_s)} cuts, {len(truth.spoken)} sentences"
            if truth
            else "cannot be read, on purpose"
        )
        print(f"{path}  {path.stat().st_size / 1000:7.0f} kB  {holds}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
