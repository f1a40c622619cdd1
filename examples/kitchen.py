"""Moving pictures of a little kitchen: one function for each thing that is done there.

Most look straight down on a table; the cook and the oven are seen from the front. The same doing
with another table, vessel, food or seed is another scene.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from numpy.random import Generator

from examples.drawing import Canvas, Colour, Painter, Picture, Point, Surface, blobs, film, tiles, tone

SKIN: Colour = (222, 170, 135)
STEEL: Colour = (176, 182, 190)
OAK: Colour = (186, 140, 92)


@dataclass(frozen=True, slots=True)
class Table:
    """Surface that the things stand on; the seed makes each table its own."""

    seed: int
    surface: Surface
    colour: Colour


@dataclass(frozen=True, slots=True)
class Vessel:
    """Something round seen from above.

    Attributes:
        wall: colour of the wall and the handles.
        inside: colour of the bottom or of what already fills it.
        handles: none for a bowl, one for a pan, two for a pot.
    """

    wall: Colour
    inside: Colour
    handles: Literal[0, 1, 2] = 0

    def draw(self, canvas: Canvas) -> None:
        """Draw it with its shadow in the middle of the canvas."""
        canvas.shade((3.0, 8.0), (41.0, 38.0), 0.55)
        if self.handles == 1:
            canvas.stroke([(-30, 18), (-80, 46)], 8.0, tone(self.wall, 0.7))
        if self.handles == 2:
            canvas.stroke([(-43, 2), (43, 2)], 9.0, tone(self.wall, 0.8))
        canvas.ellipse((0.0, 2.0), (40.0, 39.0), self.wall)
        canvas.ellipse((0.0, 2.0), (36.0, 35.0), tone(self.inside, 0.75))
        canvas.ellipse((0.5, 3.0), (34.5, 33.5), self.inside)


def smooth(share: float) -> float:
    """From 0 to 1 with a soft start and a soft end; constant outside [0, 1]."""
    share = min(1.0, max(0.0, share))
    return share * share * (3.0 - 2.0 * share)


def _arm(canvas: Canvas, elbow: Point, hand: Point, sleeve: Colour) -> None:
    """A forearm from outside the picture, and a hand."""
    cuff = (0.55 * elbow[0] + 0.45 * hand[0], 0.55 * elbow[1] + 0.45 * hand[1])
    canvas.stroke([cuff, hand], 9.0, SKIN)
    canvas.stroke([elbow, cuff], 14.0, sleeve)
    x, y = hand
    for offset in (-4.0, 0.0, 4.0):
        canvas.stroke([(x, y + offset / 2), (x - 5.0, y + offset)], 3.2, SKIN)
    canvas.ellipse(hand, (6.5, 6.0), SKIN)
    canvas.ellipse((x - 1.0, y), (4.5, 4.5), SKIN, edge=0.0)


def stirring(table: Table, vessel: Vessel, food: Sequence[Colour]) -> Picture:
    """A wooden spoon goes round in a vessel and takes the food with it."""

    def make(still: Canvas, rng: Generator) -> Painter:
        vessel.draw(still)
        pieces = blobs(rng, 26, food, within=29.0, centre=(0.0, 2.0))

        def paint(canvas: Canvas, time_s: float) -> None:
            spoon = 2.4 * time_s
            for radius in (9.0, 17.0, 25.0):
                arc = [spoon - 0.6 - 0.12 * k for k in range(9)]
                swirl = [(radius * math.cos(a), 2.0 + radius * math.sin(a)) for a in arc]
                canvas.stroke(swirl, 1.2, tone(vessel.inside, 1.18), edge=0.0)
            for piece in pieces:
                x, y = piece.place[0], piece.place[1] - 2.0
                turn = time_s * (1.5 - 0.03 * math.hypot(x, y))
                place = (
                    x * math.cos(turn) - y * math.sin(turn),
                    2.0 + x * math.sin(turn) + y * math.cos(turn),
                )
                piece.draw(canvas, place=place, turn=turn)
            tip = (17.0 * math.cos(spoon), 2.0 + 17.0 * math.sin(spoon))
            hand = (44.0 + 0.4 * tip[0], 10.0 + 0.4 * tip[1])
            canvas.stroke([tip, hand], 3.0, OAK)
            canvas.ellipse(tip, (6.0, 4.5), OAK, angle_deg=20.0)
            _arm(canvas, (95.0, 52.0), hand, (70, 110, 150))

        return paint

    return film(table.seed, table.surface, table.colour, make)


def chopping(table: Table, food: Colour, inner: Colour) -> Picture:
    """A knife goes up and down over a board; slices gather beside it."""

    def make(still: Canvas, rng: Generator) -> Painter:
        still.shade((0.0, 8.0), (60.0, 36.0), 0.5)
        still.box(-58.0, -30.0, 56.0, 38.0, OAK)
        for y in range(-24, 38, 8):
            line = [(-55.0, float(y)), (0.0, y + float(rng.uniform(-3, 3))), (53.0, float(y))]
            still.stroke(line, 0.5, tone(OAK, float(rng.uniform(0.8, 0.95))), edge=0.0)
        slices = blobs(rng, 24, [food, inner, tone(food, 1.2)], within=21.0, centre=(28.0, 5.0))

        def paint(canvas: Canvas, time_s: float) -> None:
            lift = abs(math.sin(2.0 * math.pi * time_s))
            cut_x = 2.0 - 2.2 * time_s
            canvas.ellipse((-22.0, 6.0), (cut_x + 24.0, 11.0), food)
            canvas.ellipse((-24.0, 2.5), (cut_x + 18.0, 3.0), tone(food, 1.25), edge=0.0)
            canvas.ellipse((cut_x, 6.0), (3.0, 9.0), inner)
            for piece in slices[: round(3.0 * time_s)]:
                piece.draw(canvas)
            _arm(canvas, (-95.0, 40.0), (-34.0 + 0.4 * cut_x, 8.0), (150, 80, 80))
            x, y = cut_x + 5.0 + 9.0 * lift, -6.0 * lift
            canvas.polygon(
                [(x - 2, y - 16), (x + 4, y - 13), (x + 5, y + 24), (x, y + 28), (x - 3, y + 20)],
                STEEL,
            )
            canvas.stroke([(x + 1, y + 26), (x + 3, y + 42)], 5.0, (60, 45, 40))
            _arm(canvas, (40.0, 95.0), (x + 3, y + 42), (150, 80, 80))

        return paint

    return film(table.seed, table.surface, table.colour, make)


def pouring(table: Table, vessel: Vessel, poured: Colour, food: Sequence[Colour] = ()) -> Picture:
    """Something runs from a jug into a vessel and fills it, over the food if there is any."""

    def make(still: Canvas, rng: Generator) -> Painter:
        vessel.draw(still)
        pieces = blobs(rng, 11, food, within=26.0, radius=7.0, centre=(0.0, 2.0)) if food else []

        def paint(canvas: Canvas, time_s: float) -> None:
            level = 12.0 + 19.0 * smooth(time_s / 7.0)
            canvas.ellipse((-2.0, 3.0), (level, 0.95 * level), poured, edge=0.0)
            for ring in range(3):
                share = (0.7 * time_s + ring / 3.0) % 1.0
                size = 3.0 + (level - 5.0) * share
                canvas.ellipse((-2.0, 3.0), (size, 0.95 * size), tone(poured, 0.85), edge=0.0)
                canvas.ellipse((-2.0, 3.0), (size - 1, 0.95 * size - 1), poured, edge=0.0)
            for index, piece in enumerate(pieces):
                x, y = piece.place
                wave = 3.0 * time_s + index
                place = (x + 1.5 * math.sin(wave), y + 1.5 * math.cos(wave))
                piece.draw(canvas, place=place, turn=0.3 * math.sin(wave))
            sway = 2.0 * math.sin(1.7 * time_s)
            spout = (14.0 + sway, -26.0)
            wobble = [
                (
                    spout[0] + (-2.0 - spout[0]) * k / 6 + 0.7 * math.sin(9.0 * time_s - k),
                    spout[1] + (3.0 - spout[1]) * (k / 6) ** 1.4,
                )
                for k in range(7)
            ]
            canvas.stroke(wobble, 3.6, tone(poured, 1.1))
            x, y = spout
            body = [(0, 0), (10, -14), (20, -30), (50, -16), (36, 18), (14, 10)]
            canvas.polygon([(x + dx, y + dy) for dx, dy in body], (205, 220, 228))
            filled = [(2, 0), (14, -8), (42, 2), (35, 15), (14, 8)]
            canvas.polygon([(x + dx, y + dy) for dx, dy in filled], poured, edge=0.0)
            _arm(canvas, (98.0, 20.0), (x + 48.0, y + 4.0), (90, 130, 90))

        return paint

    return film(table.seed, table.surface, table.colour, make)


def dropping(table: Table, vessel: Vessel, food: Sequence[Colour]) -> Picture:
    """Pieces fall into a vessel out of a small bowl, and jump a little where they lie."""

    def make(still: Canvas, rng: Generator) -> Painter:
        vessel.draw(still)
        pieces = blobs(rng, 30, food, within=28.0, radius=4.2, centre=(0.0, 3.0))
        order = rng.permutation(len(pieces))

        def paint(canvas: Canvas, time_s: float) -> None:
            bowl = (-30.0 + 6.0 * math.sin(2.5 * time_s), -38.0 + 2.0 * math.sin(11.0 * time_s))
            falling = []
            for turn, index in enumerate(order):
                piece, flown = pieces[index], (time_s - 0.2 * turn) / 0.5
                if flown >= 1.0:
                    hop = 0.5 * math.sin(13.0 * time_s + turn)
                    piece.draw(canvas, place=(piece.place[0] + hop, piece.place[1] - abs(hop)))
                elif flown > 0.0:
                    falling.append((piece, flown))
            for piece, flown in falling:
                x = bowl[0] + 12.0 + (piece.place[0] - bowl[0] - 12.0) * flown
                y = bowl[1] + (piece.place[1] - bowl[1]) * flown * flown
                piece.draw(canvas, place=(x, y), turn=4.0 * flown, grow=1.5 - 0.5 * flown)
            _arm(canvas, (-95.0, -20.0), (bowl[0] - 14.0, bowl[1] - 2.0), (200, 160, 70))
            canvas.ellipse(bowl, (17.0, 11.0), (236, 232, 224), angle_deg=25.0)
            canvas.ellipse((bowl[0] + 2, bowl[1] + 1), (14.0, 7.5), tone(food[0], 0.9), angle_deg=25)

        return paint

    return film(table.seed, table.surface, table.colour, make)


def sprinkling(table: Table, vessel: Vessel, grains: Colour, food: Sequence[Colour]) -> Picture:
    """A shaker is shaken over a full vessel."""

    def make(still: Canvas, rng: Generator) -> Painter:
        vessel.draw(still)
        for piece in blobs(rng, 34, food, within=30.0, radius=4.5, centre=(0.0, 3.0)):
            piece.draw(still)
        starts = rng.uniform(0.0, 1.0, 60)
        spread = rng.normal(0.0, 7.0, 60)

        def paint(canvas: Canvas, time_s: float) -> None:
            x = 10.0 + 14.0 * math.sin(1.3 * time_s) + 1.5 * math.sin(21.0 * time_s)
            y = -30.0 + 2.5 * math.sin(21.0 * time_s)
            for index, (start, aside) in enumerate(zip(starts, spread, strict=True)):
                lands_x, lands_y = (
                    1.3 * aside + 8.0 * math.sin(index),
                    8.0 + aside * math.cos(index),
                )
                if time_s > start + 0.1 * index:
                    canvas.ellipse((lands_x, lands_y), (0.9, 0.7), grains, edge=0.0)
                fall = (1.6 * time_s + start) % 1.0
                grain = (x - 8.0 + aside * fall, y + 8.0 + 34.0 * fall * fall)
                canvas.ellipse(grain, (0.8, 1.1), grains, edge=0.0)
            canvas.polygon(
                [(x - 12, y + 2), (x - 4, y + 9), (x + 18, y - 10), (x + 9, y - 20)],
                (225, 228, 232),
            )
            canvas.polygon([(x - 12, y + 2), (x - 4, y + 9), (x, y + 5), (x - 8, y - 2)], STEEL)
            _arm(canvas, (96.0, -40.0), (x + 14.0, y - 10.0), (120, 90, 140))

        return paint

    return film(table.seed, table.surface, table.colour, make)


def flipping(table: Table, pan: Vessel, cake: Colour) -> Picture:
    """A pancake is tossed, turns over in the air and comes down again, with a darker side up."""

    def make(still: Canvas, rng: Generator) -> Painter:
        pan.draw(still)
        bubbles = blobs(rng, 16, [tone(cake, 0.86)], within=19.0, radius=1.8)

        def paint(canvas: Canvas, time_s: float) -> None:
            toss, phase = divmod(time_s + 0.6, 2.4)
            flight = min(1.0, phase / 1.1)
            height = 4.0 * flight * (1.0 - flight)
            tilt = abs(math.cos(math.pi * flight))
            flipped = (int(toss) + (flight > 0.5)) % 2 == 1
            colour = tone(cake, 0.78 if flipped else 1.0)
            y, radius = 2.0 - 32.0 * height, 24.0 * (1.0 + 0.15 * height)
            canvas.ellipse((1.0, 4.0), (24.0, 23.0), tone(pan.inside, 0.6), edge=0.0)
            canvas.ellipse((0.0, y + 2.0), (radius, radius * max(0.1, tilt)), tone(colour, 0.8))
            canvas.ellipse((0.0, y), (radius, radius * max(0.08, tilt)), colour)
            if tilt > 0.6:
                for bubble in bubbles:
                    place = (bubble.place[0], y + bubble.place[1] * tilt)
                    bubble.draw(canvas, place=place, turn=0.2 * time_s)
            _arm(canvas, (-99.0, 75.0), (-74.0, 43.0 - 3.0 * height), (190, 90, 70))

        return paint

    return film(table.seed, table.surface, table.colour, make)


def placing(table: Table, dough: Colour) -> Picture:
    """A hand sets balls of dough on a tray, one after the other."""

    def make(still: Canvas, rng: Generator) -> Painter:
        still.shade((0.0, 6.0), (58.0, 42.0), 0.5)
        still.box(-55.0, -38.0, 50.0, 38.0, STEEL)
        still.box(-51.0, -34.0, 46.0, 34.0, (232, 222, 200))
        places = [(-39.0 + 24.5 * (k % 4), -22.0 + 22.0 * (k // 4)) for k in range(12)]
        crumbs = blobs(rng, 7, [tone(dough, 0.6)], within=6.0, radius=1.1)

        def ball(canvas: Canvas, place: Point, grow: float) -> None:
            canvas.ellipse(place, (8.5 * grow, 8.0 * grow), dough)
            for crumb in crumbs:
                spot = (place[0] + crumb.place[0], place[1] + crumb.place[1])
                crumb.draw(canvas, place=spot)

        def paint(canvas: Canvas, time_s: float) -> None:
            done, share = divmod(time_s / 0.62, 1.0)
            for place in places[: int(done)]:
                ball(canvas, place, 1.0)
            away = (62.0, 44.0)
            goal = places[min(int(done), len(places) - 1)]
            near = smooth(share / 0.7) if share < 0.8 else 1.0 - smooth((share - 0.8) / 0.2)
            held = (away[0] + (goal[0] - away[0]) * near, away[1] + (goal[1] - away[1]) * near)
            if share < 0.8 and done < len(places):
                ball(canvas, held, 1.2 - 0.2 * near)
            _arm(canvas, (102.0, 74.0), (held[0] + 9.0, held[1] + 5.0), (80, 140, 140))

        return paint

    return film(table.seed, table.surface, table.colour, make)


def baking(wall: Table, cakes: Colour) -> Picture:
    """A tray slides into a lit oven."""

    def make(still: Canvas, rng: Generator) -> Painter:
        still.box(-62.0, -42.0, 62.0, 56.0, (88, 92, 100))
        for x in range(-48, 49, 16):
            still.ellipse((float(x), -33.0), (4.0, 4.0), STEEL)
            still.stroke([(x, -33.0), (x + float(rng.uniform(-2, 2)), -36.0)], 1.0, (50, 50, 55))

        def paint(canvas: Canvas, time_s: float) -> None:
            glow = 1.0 + 0.06 * math.sin(5.0 * time_s)
            canvas.box(-52.0, -24.0, 52.0, 44.0, (40, 34, 34))
            canvas.polygon(
                [(-44, -18), (44, -18), (50, 42), (-50, 42)], tone((168, 92, 48), glow), edge=0.0
            )
            for y in (-8.0, 0.0, 8.0, 30.0):
                canvas.stroke([(-47.0, y), (47.0, y)], 0.8, tone((230, 160, 90), glow), edge=0.0)
            for x in (-30.0, -10.0, 10.0, 30.0):
                flame = 2.0 * math.sin(7.0 * time_s + x)
                canvas.ellipse((x, 39.0), (7.0, 3.0), tone((255, 190, 90), glow), edge=0.0)
                canvas.ellipse((x, 38.0), (2.0, 3.5 + flame), (255, 235, 170), edge=0.0)
            share = smooth((time_s - 0.3) / 5.0)
            y, half, deep = 62.0 - 46.0 * share, 56.0 - 17.0 * share, 17.0 - 7.0 * share
            canvas.polygon(
                [
                    (-half, y + deep),
                    (half, y + deep),
                    (0.86 * half, y - deep),
                    (-0.86 * half, y - deep),
                ],
                STEEL,
            )
            for row in (-0.5, 0.45):
                for column in (-0.66, -0.22, 0.22, 0.66):
                    place = (column * half * (1.0 - 0.07 * row), y + row * deep)
                    size = 0.15 * half * (1.0 + 0.25 * math.sin(0.5 * time_s) ** 2)
                    canvas.ellipse(place, (size, 0.55 * size), cakes)
            leave = 40.0 * smooth((time_s - 5.0) / 1.5)
            grip = (0.9 * half + leave, y + deep + leave)
            _arm(canvas, (grip[0] + 22.0, 112.0), grip, (60, 120, 90))

        return paint

    return film(wall.seed, wall.surface, wall.colour, make)


def serving(table: Table, plate: Colour, food: Sequence[Colour]) -> Picture:
    """Steam rises from a full plate; a hand takes a piece and brings it back."""

    def make(still: Canvas, rng: Generator) -> Painter:
        still.shade((3.0, 10.0), (46.0, 40.0), 0.45)
        still.ellipse((0.0, 4.0), (45.0, 40.0), plate)
        still.ellipse((0.0, 4.0), (33.0, 29.0), tone(plate, 0.93))
        for piece in blobs(rng, 12, food, within=24.0, radius=8.0, centre=(0.0, 4.0)):
            piece.draw(still)
        taken = blobs(rng, 1, food, within=1.0, radius=9.0)[0]

        def paint(canvas: Canvas, time_s: float) -> None:
            away = 0.5 - 0.5 * math.cos(1.6 * time_s)
            place = (14.0 + 26.0 * away, 8.0 + 22.0 * away)
            taken.draw(canvas, place=place, turn=0.6 * away)
            _arm(canvas, (100.0, 78.0), (place[0] + 9.0, place[1] + 6.0), (170, 110, 60))
            for x in (-20.0, -4.0, 12.0):
                rise = (0.35 * time_s + 0.3 * x) % 1.0
                wisp = [
                    (x + 3.0 * math.sin(0.9 * k + 4.0 * time_s + x), 8.0 - 40.0 * rise - 3.0 * k)
                    for k in range(7)
                ]
                canvas.stroke(wisp, 2.2 * (1.0 - rise) + 0.4, (244, 244, 240), edge=0.0)

        return paint

    return film(table.seed, table.surface, table.colour, make)


def greeting(seed: int, wall: Colour, apron: Colour) -> Picture:
    """A cook behind the worktop, who talks and waves."""

    def make(still: Canvas, rng: Generator) -> Painter:
        width = still.half_width + 5.0
        still.box(-width, -30.0, -24.0, -27.0, OAK)
        for index, x in enumerate(range(-62, -26, 10)):
            jar = ((190, 90, 70), (210, 180, 90), (110, 140, 90), (120, 90, 70))[index % 4]
            still.box(x - 3.5, -42.0 + float(rng.uniform(-2, 2)), x + 3.5, -30.6, jar)
        still.box(34.0, -46.0, width, -8.0, (170, 205, 222))
        still.stroke([(52.0, -46.0), (52.0, -8.0)], 1.5, (235, 235, 230))

        def paint(canvas: Canvas, time_s: float) -> None:
            sway = 1.5 * math.sin(1.4 * time_s)
            nod = 0.8 * math.sin(3.1 * time_s)
            body = [(-12, 2), (12, 2), (25, 10), (29, 50), (-29, 50), (-25, 10)]
            canvas.polygon([(x + 0.5 * sway, y) for x, y in body], (238, 238, 235))
            front = [(-11, 12), (11, 12), (18, 50), (-18, 50)]
            canvas.polygon([(x + 0.5 * sway, y) for x, y in front], apron)
            canvas.box(-5.5 + sway, -6.0, 5.5 + sway, 6.0, tone(SKIN, 0.9))
            x, y = sway, -16.0 + nod
            canvas.ellipse((x, y), (13.0, 15.5), SKIN)
            canvas.ellipse((x, y - 12.0), (13.5, 6.0), (92, 62, 44))
            canvas.box(x - 12.0, y - 27.0, x + 12.0, y - 12.0, (246, 246, 242))
            for puff in (-9.0, 0.0, 9.0):
                canvas.ellipse((x + puff, y - 28.0), (7.5, 6.5), (246, 246, 242))
            blink = 0.25 if time_s % 2.3 < 0.14 else 1.8
            for side in (-5.0, 5.0):
                canvas.ellipse((x + side, y - 2.0), (1.3, blink), (50, 40, 40), edge=0.0)
                canvas.ellipse((x + 1.7 * side, y + 4.0), (2.4, 1.6), (226, 140, 120), edge=0.0)
            canvas.stroke([(x, y), (x + 1.5, y + 3.5)], 0.8, tone(SKIN, 0.75), edge=0.0)
            opened = 0.7 + 2.4 * abs(math.sin(8.0 * time_s) * math.sin(2.3 * time_s))
            canvas.ellipse((x, y + 8.5), (4.2, opened), (150, 60, 60))
            canvas.box(-width, 40.0, width, 60.0, OAK)
            wave = 8.0 * math.sin(6.0 * time_s)
            canvas.stroke([(23.0 + sway, 16.0), (40.0, 26.0)], 11.0, (238, 238, 235))
            _arm(canvas, (40.0, 26.0), (42.0 + wave, -6.0), (238, 238, 235))

        return paint

    return film(seed, tiles, wall, make)
