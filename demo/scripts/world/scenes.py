"""Small drawn pictures: up to four shapes on a plain ground, with a caption and questions.

A picture is 64 × 64 pixels of three bytes, drawn without smoothing, so that the same scene is the
same picture everywhere. Shapes stand in a grid of three rows and three columns, moved a little.
"""

from dataclasses import dataclass, replace

import numpy as np

from .stories import others, pick

SIZE = 64
SHAPES = "circle square triangle cross ring bar".split()
COLOURS = {
    "red": (214, 40, 40),
    "green": (46, 160, 67),
    "blue": (38, 84, 200),
    "yellow": (240, 205, 40),
    "purple": (140, 60, 170),
    "orange": (245, 140, 30),
    "white": (245, 245, 245),
    "black": (20, 20, 20),
}
GROUNDS = [(128, 128, 128), (96, 104, 112), (150, 140, 128)]
SIZES = {"small": 5, "large": 9}
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "centre", "right")
NUMBERS = "none one two three four".split()


@dataclass(frozen=True)
class Shape:
    kind: str
    colour: str
    size: str
    row: int
    column: int
    x: int
    y: int
    grown: int = 0  # pixels on the radius of its size

    @property
    def place(self):
        if self.row == 1 and self.column == 1:
            return "middle"
        if self.row == 1:
            return COLUMNS[self.column]
        return ROWS[self.row] if self.column == 1 else f"{ROWS[self.row]} {COLUMNS[self.column]}"

    @property
    def words(self):
        return f"{self.size} {self.colour} {self.kind}"


@dataclass
class Scene:
    ground: int
    shapes: list  # in reading order

    def caption(self):
        """All shapes in reading order with their places."""
        parts = [f"a {shape.words} at the {shape.place}" for shape in self.shapes]
        return (parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]).capitalize() + "."


def scene(random):
    cells = random.permutation(9)[: 1 + random.integers(4)]
    shapes = []
    for cell in sorted(cells.tolist()):
        row, column = divmod(cell, 3)
        jitter = random.integers(-2, 3, 2)
        x, y = int(11 + 21 * column + jitter[0]), int(11 + 21 * row + jitter[1])
        shapes.append(Shape(pick(random, SHAPES), pick(random, list(COLOURS)), pick(random, list(SIZES)), row, column, x, y))
    return Scene(int(random.integers(len(GROUNDS))), shapes)


def shaken(random, scene):
    """The same scene with shapes moved and sized a little outside of what `scene` draws."""
    moved = lambda value: min(SIZE - 8, max(7, value + int(random.integers(-2, 3))))
    shapes = [replace(s, x=moved(s.x), y=moved(s.y), grown=int(random.integers(-1, 2))) for s in scene.shapes]
    return Scene(scene.ground, shapes)


def mask(shape):
    """The pixels of one shape, [row, column]."""
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    dx, dy, r = x - shape.x, y - shape.y, SIZES[shape.size] + shape.grown
    distance = dx * dx + dy * dy
    if shape.kind == "circle":
        return distance <= r * r
    if shape.kind == "ring":
        return (distance <= r * r) & (distance > (r * r) // 3)
    if shape.kind == "square":
        return (abs(dx) <= r - 1) & (abs(dy) <= r - 1)
    if shape.kind == "triangle":
        return (dy <= r - 1) & (dy >= -r) & (2 * abs(dx) <= dy + r)
    if shape.kind == "cross":
        thick = max(1, r // 3)
        return ((abs(dx) <= thick) & (abs(dy) <= r)) | ((abs(dy) <= thick) & (abs(dx) <= r))
    return (abs(dx) <= r) & (abs(dy) <= max(1, r // 3))


def draw(scene):
    """uint8 [64, 64, 3]."""
    picture = np.empty((SIZE, SIZE, 3), dtype=np.uint8)
    picture[:] = GROUNDS[scene.ground]
    for shape in scene.shapes:
        picture[mask(shape)] = COLOURS[shape.colour]
    return picture


def count(scene, key, value):
    return sum(getattr(shape, key) == value for shape in scene.shapes)


def questions(random, scene):
    """(question, answer, wrong answers); a question about one shape names it so that no other fits."""
    shapes, made = scene.shapes, []
    made.append(("How many shapes are there?", NUMBERS[len(shapes)], others(random, NUMBERS[1:], NUMBERS[len(shapes)])))
    colour = pick(random, shapes).colour if random.random() < 0.7 else pick(random, list(COLOURS))
    right = NUMBERS[count(scene, "colour", colour)]
    made.append((f"How many {colour} shapes are there?", right, others(random, NUMBERS, right)))
    for shape in shapes:
        if count(scene, "kind", shape.kind) == 1:
            made.append((f"What colour is the {shape.kind}?", shape.colour, others(random, list(COLOURS), shape.colour)))
            made.append((f"Is the {shape.kind} small or large?", shape.size, others(random, list(SIZES), shape.size, 1)))
            made.append((f"Where is the {shape.kind}?", f"at the {shape.place}", [f"at the {p}" for p in others(random, all_places(), shape.place)]))
        if count(scene, "colour", shape.colour) == 1:
            made.append((f"Which shape is {shape.colour}?", shape.kind, others(random, SHAPES, shape.kind)))
        made.append((f"What is at the {shape.place}?", f"a {shape.words}", [f"a {w}" for w in wrong_words(random, shape)]))
    wanted = pick(random, shapes) if random.random() < 0.5 else None
    kind, colour = (wanted.kind, wanted.colour) if wanted else (pick(random, SHAPES), pick(random, list(COLOURS)))
    there = any(shape.kind == kind and shape.colour == colour for shape in shapes)
    made.append((f"Is there a {colour} {kind}?", "yes" if there else "no", ["no" if there else "yes"]))
    return made


def all_places():
    return [Shape("", "", "", row, column, 0, 0).place for row in range(3) for column in range(3)]


def wrong_words(random, shape):
    """Three descriptions, each wrong in one word."""
    return [
        f"{shape.size} {others(random, list(COLOURS), shape.colour, 1)[0]} {shape.kind}",
        f"{shape.size} {shape.colour} {others(random, SHAPES, shape.kind, 1)[0]}",
        f"{others(random, list(SIZES), shape.size, 1)[0]} {shape.colour} {shape.kind}",
    ]
