"""The cottage's door in close-up: the two scenes that decide the label."""

from samples.generator.canvas import HEIGHT, WIDTH, Canvas, Colour, blend
from samples.generator.characters import Pose, draw
from samples.generator.scenes import DOOR_SECONDS, DoorScene

_WALL: Colour = (120, 92, 104)
_BEAM: Colour = (74, 52, 56)
_LIGHT: Colour = (255, 236, 190)
_WOOD: Colour = (134, 82, 108)
_PATH: Colour = (92, 88, 96)
_FLOWERS: tuple[Colour, ...] = ((226, 170, 190), (236, 222, 226), (196, 160, 206))
_LEFT, _RIGHT, _TOP, _STEP = 112.0, 208.0, 30.0, 160.0  # edges of the door, in drawing units
_HEIGHT = 112.0  # of a character at the door, in drawing units
_WAY = 110.0  # between the door and the place where a character appears or disappears, in drawing units
_OUT, _IN = 3.2, 3.6  # seconds after which a leaving character walks away, and an arriving one is inside
_STEPS_PER_SECOND, _WAVES_PER_SECOND = 1.6, 1.5


def facade(width: int, height: int) -> Canvas:
    """Paints the still part of a door scene, the cottage's front at dusk, for a picture of width x height pixels."""
    canvas = Canvas.blank(width, height, blend(_WALL, _BEAM, 0.35))
    _bricks(canvas)
    canvas.box(0, 0, WIDTH, 12, _BEAM)
    for x in (34.0, 246.0):
        _window(canvas, x)
    canvas.box(0, _STEP, WIDTH, HEIGHT, _PATH)
    canvas.box(_LEFT - 22, _STEP, _RIGHT + 22, _STEP + 9, (150, 142, 144), 3)
    canvas.box(_LEFT - 8, _TOP - 8, _RIGHT + 8, _STEP, _BEAM, 30)
    canvas.ellipse(_RIGHT + 20, 62, 7, 9, _LIGHT)
    canvas.box(_RIGHT + 15, 50, _RIGHT + 25, 55, _BEAM)
    return canvas


def _bricks(canvas: Canvas) -> None:
    for row in range(16):
        for column in range(-1, 16):
            x, y = 20.0 * column + 10 * (row % 2), 10.0 * row
            shade = 0.05 * ((7 * column + 3 * row) % 4)
            canvas.box(x + 0.5, y + 0.5, x + 19.5, y + 9.5, blend(_WALL, _BEAM, shade), 1)


def _window(canvas: Canvas, x: float) -> None:
    canvas.box(x - 4, 46, x + 44, 104, _BEAM, 3)
    canvas.box(x, 50, x + 40, 100, (238, 196, 128))
    canvas.line([(x + 20, 50), (x + 20, 100)], 2.5, _BEAM)
    canvas.line([(x, 75), (x + 40, 75)], 2.5, _BEAM)
    canvas.box(x - 6, 104, x + 46, 112, (110, 72, 62), 2)
    for flower in range(6):
        canvas.ellipse(x - 1 + 8.5 * flower, 103, 4, 4, _FLOWERS[flower % 3])


def act(canvas: Canvas, scene: DoorScene, seconds: float) -> None:
    """Draws the door and the character who uses it, `seconds` after the act began."""
    opening = _ramp(seconds, 0.1, 0.6) if scene.act == "leaving" else _ramp(seconds, 0.9, 1.4)
    closing = _ramp(seconds, DOOR_SECONDS - 0.5, DOOR_SECONDS)
    open_share = opening * (1 - closing)
    canvas.box(_LEFT, _TOP, _RIGHT, _STEP, _LIGHT, 26)
    if open_share > 0:
        canvas.polygon(
            [(_LEFT, _STEP), (_RIGHT, _STEP), (_RIGHT + 34, HEIGHT), (_LEFT - 34, HEIGHT)],
            blend(_PATH, _LIGHT, 0.7 * open_share),
        )
    inside = seconds < 1 if scene.act == "leaving" else seconds > _IN
    if inside:
        draw(canvas, scene.character, _pose(scene, seconds))
    _leaf(canvas, open_share)
    if not inside:
        draw(canvas, scene.character, _pose(scene, seconds))


def _pose(scene: DoorScene, seconds: float) -> Pose:
    middle = (_LEFT + _RIGHT) / 2
    stride = _STEPS_PER_SECOND * seconds
    if scene.act == "leaving":
        gone, out = _ramp(seconds, _OUT, DOOR_SECONDS), _ramp(seconds, 0.8, 1.2)
        y, height = _STEP + 6 * out, _HEIGHT * (0.94 + 0.06 * out)
        if gone:
            return Pose(middle + _WAY * gone, y, height, 1, stride)
        return Pose(middle, y, height, wave=_WAVES_PER_SECOND * seconds if out else None)
    come, enter = _ramp(seconds, -1.0, 1.2), _ramp(seconds, _IN - 0.2, _IN + 0.2)
    y, height = _STEP + 6 * (1 - enter), _HEIGHT * (1 - 0.06 * enter)
    if come < 1:
        return Pose(middle - _WAY * (1 - come), y, height, 1, stride)
    return Pose(middle, y, height, wave=_WAVES_PER_SECOND * seconds if not enter else None)


def _leaf(canvas: Canvas, open_share: float) -> None:
    """Draws the leaf of the door, which turns on its left edge and so appears narrower the wider it is open."""
    edge = _LEFT + (_RIGHT - _LEFT) * (1 - 0.88 * open_share)
    canvas.box(_LEFT, _TOP, edge, _STEP, _WOOD, min(26.0, (edge - _LEFT) / 2))
    for share in (0.25, 0.5, 0.75):
        x = _LEFT + share * (edge - _LEFT)
        canvas.line([(x, _TOP + 8), (x, _STEP - 4)], 1.2, blend(_WOOD, _BEAM, 0.6))
    canvas.ellipse(edge - 0.12 * (edge - _LEFT), 102, 3, 3, (240, 214, 140))


def _ramp(value: float, start: float, end: float) -> float:
    """Returns 0 up to `start`, 1 from `end` on, and interpolates linearly in between."""
    return min(1.0, max(0.0, (value - start) / (end - start)))
