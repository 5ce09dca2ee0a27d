"""Makes a movie in which somebody leaves a cottage and, more than 40 s later, somebody arrives there: the same one?

    python -m samples.generator.make_movie --seed 2425 --size 640x360 -o samples/movie.mp4
    python -m samples.generator.make_movie --train 1600 --val 200 --fps 1 -o movies
    python -m samples.generator.make_movie --question order --gap 80 -o movie.mp4

The label is `returns` or `stranger`, and only a viewer who remembers the first door scene at the second one can tell
which. With --question, a movie of another kind asks a different question; see samples/generator/questions.py.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import av

from samples.generator.dataset import write_dataset
from samples.generator.film import Format, write
from samples.generator.questions import MAX_GAP, MIN_GAP, QUESTIONS, write_script
from samples.generator.scenes import Script
from samples.generator.story import Story

_SPLITS = ("train", "val", "test")


def main() -> None:
    """Runs the command line."""
    parser = _parser()
    arguments = parser.parse_args()
    form = _format(parser, arguments)
    script: Callable[[int], Script] = Story.from_seed
    if arguments.question:
        script = partial(write_script, arguments.question, arguments.gap)
    splits, first = {}, arguments.seed
    for split in _SPLITS:
        splits[split] = range(first, first + getattr(arguments, split))
        first = splits[split].stop
    try:
        if first > arguments.seed:
            print(write_dataset(arguments.output, splits, form, script))
        else:
            movie = script(arguments.seed)
            write(movie, arguments.output, form)
            print(f"{arguments.output}: {movie.label}, {movie.duration:.1f} s")
    except (av.FFmpegError, OSError, ValueError) as error:  # PyAV raises ValueError for an unknown suffix
        sys.exit(f"error: {arguments.output}: cannot be written with codec {form.codec}: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m samples.generator.make_movie",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="movie file, or folder of a dataset")
    parser.add_argument("--seed", type=int, default=0, help="seed of the movie, or of the first movie of a dataset")
    parser.add_argument("--fps", type=int, default=Format.fps, help="frames per second (default: %(default)s)")
    parser.add_argument("--size", default="320x180", help="WIDTHxHEIGHT in pixels, both even (default: %(default)s)")
    parser.add_argument("--codec", default=Format.codec, help="name of an encoder in FFmpeg (default: %(default)s)")
    for split in _SPLITS:
        parser.add_argument(f"--{split}", type=int, default=0, metavar="N", help=f"movies of a dataset's {split} split")
    parser.add_argument("--question", choices=QUESTIONS, help="question of the movie (default: the sample movie's)")
    parser.add_argument(
        "--gap", type=int, default=40, help="seconds between the decisive scenes of --question (default: %(default)s)"
    )
    return parser


def _format(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> Format:
    """Checks the options, and returns the format that they describe."""
    try:
        width, height = map(int, arguments.size.split("x"))
        if min(width, height) < 2 or width % 2 or height % 2:
            raise ValueError
    except ValueError:
        parser.error(f"--size={arguments.size}: must be WIDTHxHEIGHT, two even numbers of pixels")
    counts = (arguments.seed, arguments.train, arguments.val, arguments.test)
    if min(counts) < 0 or arguments.fps < 1:
        parser.error("--seed, --train, --val and --test must not be negative, --fps must be at least 1")
    if not MIN_GAP <= arguments.gap <= MAX_GAP:
        parser.error(f"--gap={arguments.gap}: must be from {MIN_GAP} to {MAX_GAP} seconds")
    if not _encodes_video(arguments.codec):
        sys.exit(f"error: codec={arguments.codec!r}: must be a video encoder of this FFmpeg, such as {Format.codec}")
    return Format(arguments.fps, width, height, arguments.codec)


def _encodes_video(codec: str) -> bool:
    try:
        return av.Codec(codec, "w").type == "video"
    except ValueError:
        return False


if __name__ == "__main__":
    main()
