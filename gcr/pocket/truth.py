"""Truth: what an image of the world shows, read from its pixels alone.

This is the evaluator of pocket: it measures results, and the training writes replies with it. The
loop and the critic never use it.

Foreground is what differs from the canvas; connected pieces of one colour are things; a thing's
shape is the template that overlaps it best (intersection over union).
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from gcr.pocket import world
from gcr.pocket.language import Spec, Wanted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from PIL.Image import Image

SPECK = 56  # pixels; a smaller piece is not a thing
RIM = 2  # pixels in which a thing blends into the canvas
CONTRAST = 70.0  # RGB distance from the canvas at which a pixel is foreground
SHADE = 0.5  # patches whose paints differ by less of what their colours do are of one thing
MISSING = 2.5  # cost of a wanted thing that is not there
NONE = math.inf  # instead of the index of a seen thing; sorts after all of them
CLEAR = 0.62  # overlap with its template; a thing with less is an unclear blob
DOUBTFUL = 0.8  # overlap; a thing with less may be several that touch
TINY = 8.0  # pixels of radius; a part of a blob that is smaller is no thing
CLEARER = 0.1  # by which each of them is more like a shape than all as a whole

_CANVAS_RGB = np.array(list(world.CANVASES.values()), dtype=np.float32)
_COLOUR_RGB = np.array(list(world.COLOURS.values()), dtype=np.float32)
# Pixels that share a corner are connected: the tip of a star may hang by one.
_AROUND = np.ones((3, 3))


@dataclass(frozen=True, slots=True)
class Seen(world.Thing):
    """A thing read from pixels.

    Attributes:
        clarity: overlap with its template, 0-1.
    """

    clarity: float = 1.0

    @property
    def clear(self) -> bool:
        """Whether it is like one of the shapes."""
        return self.clarity >= CLEAR


@dataclass(frozen=True, slots=True)
class View:
    """All that an image shows.

    Attributes:
        canvas: its colour.
        things: in reading order of their places.
        specks: how many pieces are too small to be things.
    """

    canvas: str
    things: tuple[Seen, ...]
    specks: int = 0


def look(image: Image) -> View:
    """Read an RGB image of SIDE × SIDE pixels. Raises ValueError for another size."""
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    if pixels.shape != (world.SIDE, world.SIDE, 3):
        raise ValueError(f"truth reads {world.SIDE}×{world.SIDE} images, not {pixels.shape[:2]}")
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    canvas = int(np.argmin(((_CANVAS_RGB - np.median(border, axis=0)) ** 2).sum(-1)))
    foreground = np.sqrt(((pixels - _CANVAS_RGB[canvas]) ** 2).sum(-1)) > CONTRAST
    nearest = ((pixels[:, :, None] - _COLOUR_RGB) ** 2).sum(-1).argmin(-1)
    things, specks = [], 0
    for piece in _pieces(foreground, nearest, pixels):
        if piece.sum() < SPECK:
            specks += 1
        else:
            things += _things(piece, pixels, _CANVAS_RGB[canvas])
    order = sorted(things, key=lambda t: (world.PLACES.index(t.place), t.y, t.x))
    return View(list(world.CANVASES)[canvas], tuple(order), specks)


def _pieces(
    foreground: NDArray[np.bool_], nearest: NDArray[np.intp], pixels: NDArray[np.float32]
) -> list[NDArray[np.bool_]]:
    """Connected pieces of one colour, as (SIDE, SIDE) masks.

    foreground: (SIDE, SIDE); nearest: the colour nearest to each pixel, (SIDE, SIDE); pixels:
    (SIDE, SIDE, 3).
    """
    labels, count = ndimage.label(foreground, _AROUND)
    pieces = []
    for i in range(1, count + 1):
        whole = labels == i
        # A rim blends into the canvas and takes on other colours' hues: vote without it.
        inside = ndimage.binary_erosion(whole, iterations=RIM)
        votes = np.bincount(nearest[inside], minlength=len(_COLOUR_RGB))
        many = [int(c) for c in np.flatnonzero(votes >= SPECK) if votes[c] >= 0.2 * votes.sum()]
        paints = {c: np.median(pixels[inside & (nearest == c)], axis=0) for c in many}
        main = _hues(dict(sorted(paints.items(), key=lambda item: -votes[item[0]])))
        if len(main) < 2:
            pieces.append(whole)
            continue
        # Things that touch: give every pixel to the nearest solid patch of a main colour.
        solid = np.stack([inside & (nearest == c) for c in main])
        distance = np.stack([ndimage.distance_transform_edt(~patch) for patch in solid])
        owner = distance.argmin(0)
        for j in range(len(main)):
            parts, n = ndimage.label(whole & (owner == j), _AROUND)
            pieces += [parts == k for k in range(1, n + 1)]
    return pieces


def _hues(paints: dict[int, NDArray[np.float32]]) -> list[int]:
    """The colours that are not mere shades of another: a yellow thing that is darker on one side,
    say, has an orange patch, but its paints differ by less than yellow and orange do.

    paints: of the patches of a piece, (3,) each, by colour, the largest patch first.
    """
    hues: list[int] = []
    for colour, paint in paints.items():
        apart = [
            np.linalg.norm(paint - paints[other])
            / np.linalg.norm(_COLOUR_RGB[colour] - _COLOUR_RGB[other])
            for other in hues
        ]
        if all(share >= SHADE for share in apart):
            hues.append(colour)
    return hues


def _things(
    piece: NDArray[np.bool_], pixels: NDArray[np.float32], canvas: NDArray[np.float32]
) -> list[Seen]:
    """What a piece of one colour shows: a thing, or things that touch, if cutting it where it is
    narrowest leaves parts that are much more like shapes: beyond doubt, or where the whole is like
    no shape, clear and not tiny.
    """
    whole = _read(piece, pixels, canvas)
    if whole.clarity < DOUBTFUL and (parts := _cut(piece)):
        things = [thing for part in parts for thing in _things(part, pixels, canvas)]
        least, radius = (DOUBTFUL, 0.0) if whole.clear else (CLEAR, TINY)
        if all(
            t.clarity >= max(least, whole.clarity + CLEARER) and t.radius >= radius for t in things
        ):
            return things
    return [whole]


def _cut(piece: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """Both sides of the shortest straight cut through a piece that leaves at least a fifth of it on
    either side; none where there is no such cut.

    Where the neck is as narrow for a while, the cut goes through its middle.
    """
    points = np.argwhere(piece)
    least = max(SPECK, len(points) // 5)
    rank, first = (math.inf, 0), np.zeros(len(points), dtype=bool)
    for angle in np.arange(0, np.pi, np.pi / 12):
        along = np.rint(points @ (np.cos(angle), np.sin(angle))).astype(int)
        along -= along.min()
        widths = np.bincount(along)
        before = widths.cumsum() - widths
        free = np.flatnonzero((before >= least) & (before <= len(points) - least))
        if not free.size:
            continue
        narrow = free[widths[free] == widths[free].min()]
        necks = np.split(narrow, np.flatnonzero(np.diff(narrow) > 1) + 1)
        neck = max(necks, key=len)
        if (now := (widths[neck[0]], -len(neck))) < rank:
            rank, first = now, along < neck[len(neck) // 2]
    if not first.any():
        return []
    sides = np.zeros((2, *piece.shape), dtype=bool)
    sides[first.astype(int), points[:, 0], points[:, 1]] = True
    return list(sides)


def _read(
    piece: NDArray[np.bool_], pixels: NDArray[np.float32], canvas: NDArray[np.float32]
) -> Seen:
    """The thing that a piece is. piece: (SIDE, SIDE); pixels: (SIDE, SIDE, 3); canvas: (3,)."""
    inside = ndimage.binary_erosion(piece, iterations=RIM)
    paint = np.median(pixels[inside if inside.sum() >= 6 else piece], axis=0)
    colour = int(((_COLOUR_RGB - paint) ** 2).sum(-1).argmin())
    # How much of each pixel the paint covers: exact areas in spite of soft edges.
    cover = ((pixels - canvas) @ (paint - canvas) / ((paint - canvas) ** 2).sum()).clip(0, 1)
    cover = cover * ndimage.binary_dilation(piece, iterations=RIM)
    area = float(cover.sum())
    rows, columns = np.indices(cover.shape)
    cy, cx = ((cover * v).sum() / area + 0.5 for v in (rows, columns))
    best = Seen("", list(world.COLOURS)[colour], cx, cy, 0.0, clarity=-1.0)
    for name in world.SHAPES:
        unit_area, dx, dy = _template(name)
        r = (area / unit_area) ** 0.5
        x, y = cx - dx * r, cy - dy * r
        mask = _coverage(name, x, y, r)
        overlap = float(np.minimum(mask, cover).sum() / np.maximum(mask, cover).sum())
        if overlap > best.clarity:
            best = Seen(name, best.colour, x, y, r, clarity=overlap)
    return best


@lru_cache
def _template(shape: str) -> tuple[float, float, float]:
    """Area, and centroid (x, y) relative to the centre, of a shape of radius 1."""
    points = np.array(world.outline(shape, 0, 0, 1))
    x, y = points.T
    x2, y2 = np.roll(x, -1), np.roll(y, -1)
    cross = x * y2 - x2 * y
    area = cross.sum() / 2
    return (
        float(abs(area)),
        float(((x + x2) * cross).sum() / (6 * area)),
        float(((y + y2) * cross).sum() / (6 * area)),
    )


def _coverage(shape: str, x: float, y: float, r: float) -> NDArray[np.float32]:
    """How much of each pixel a shape covers: (SIDE, SIDE), 0-1."""
    from PIL import Image, ImageDraw

    big = Image.new("L", (world.SIDE * 4, world.SIDE * 4))
    points = [(px * 4, py * 4) for px, py in world.outline(shape, x, y, r)]
    ImageDraw.Draw(big).polygon(points, fill=255)
    small = big.resize((world.SIDE, world.SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / np.float32(255)


@dataclass(frozen=True, slots=True)
class Finding:
    """How an image fits a request.

    Attributes:
        matched: (the wanted thing, the seen thing that fits it best, its wrong attributes).
        missing: wanted things that are not there.
        extra: seen things that are not wanted.
        relation: whether the request's relation holds; None: it has none.
        canvas: whether the canvas is right; None: the request names none.
    """

    matched: tuple[tuple[Wanted, Seen, tuple[str, ...]], ...]
    missing: tuple[Wanted, ...]
    extra: tuple[Seen, ...]
    relation: bool | None
    canvas: bool | None

    @property
    def flaws(self) -> int:
        """How much is wrong: each wrong attribute, missing or extra thing, relation and canvas."""
        return (
            sum(len(wrong) for _, _, wrong in self.matched)
            + len(self.missing)
            + len(self.extra)
            + (self.relation is False)
            + (self.canvas is False)
        )

    @property
    def right(self) -> bool:
        """Whether the image shows all of the request and nothing else."""
        return self.flaws == 0


def compare(spec: Spec, view: View) -> Finding:
    """Match seen things to wanted things so that the least is wrong."""
    wanted, seen = list(spec.wanted()), list(view.things)
    wrongs = [[_wrong(w, s) for s in seen] for w in wanted]
    costs = [[_cost(wrong) for wrong in row] for row in wrongs]
    best: tuple[float, tuple[float, ...]] = (math.inf, ())
    fit: list[int | None] = []
    relation = None
    for cost, order in _fits(costs, max(0, len(wanted) - len(seen))):
        if cost > best[0]:
            break
        trial = [None if j == NONE else int(j) for j in order]
        holds = _holds(spec, wanted, [None if j is None else seen[j] for j in trial])
        if (rank := (cost + (holds is False), order)) < best:
            best, fit, relation = rank, trial, holds
    return Finding(
        matched=tuple(
            (wanted[i], seen[j], wrongs[i][j]) for i, j in enumerate(fit) if j is not None
        ),
        missing=tuple(wanted[i] for i, j in enumerate(fit) if j is None),
        extra=tuple(s for j, s in enumerate(seen) if j not in fit),
        relation=relation,
        canvas=None if not spec.canvas else spec.canvas == view.canvas,
    )


def _fits(costs: list[list[float]], spare: int) -> Iterator[tuple[float, tuple[float, ...]]]:
    """Every way to match wanted things to seen things, with its cost, the cheapest first.

    Each wanted thing has the index of another seen thing; `spare` of them have NONE.
    """
    queue: list[tuple[float, tuple[float, ...], int]] = [(0.0, (), spare)]
    while queue:
        cost, matches, left = heapq.heappop(queue)
        if len(matches) == len(costs):
            yield cost, matches
            continue
        row = costs[len(matches)]
        for j in set(range(len(row))).difference(map(int, filter(math.isfinite, matches))):
            heapq.heappush(queue, (cost + row[j], (*matches, j), left))
        if left:
            heapq.heappush(queue, (cost + MISSING, (*matches, NONE), left - 1))


def _wrong(wanted: Wanted, seen: Seen) -> tuple[str, ...]:
    return tuple(
        name
        for name, expected, actual in (
            ("colour", wanted.colour, seen.colour),
            ("shape", wanted.shape, seen.shape if seen.clear else "blob"),
            ("size", wanted.size, seen.size),
            ("place", wanted.place, seen.place),
        )
        if expected and expected != actual
    )


def _cost(wrong: tuple[str, ...]) -> float:
    weights = {"colour": 1.0, "shape": 1.0, "size": 0.6, "place": 0.8}
    return sum(weights[name] for name in wrong)


def _holds(spec: Spec, wanted: list[Wanted], seen: list[Seen | None]) -> bool | None:
    """Whether the relation holds between all things of both sides; None: there is none."""
    if spec.relation is None:
        return None
    first = [s for w, s in zip(wanted, seen, strict=True) if w.group in spec.relation.first]
    second = [s for w, s in zip(wanted, seen, strict=True) if w.group in spec.relation.second]
    return all(
        a is not None and b is not None and world.stands(a, spec.relation.name, b)
        for a in first
        for b in second
    )


def shows(image: Image, spec: Spec) -> bool:
    """Whether an image shows all of a request and nothing else."""
    return compare(spec, look(image)).right
