"""Draws movies in which somebody leaves a cottage and, more than 40 s later, somebody comes home: the same one?

    python samples/make_movie.py --seed 2425 --size 640x360 -o samples/movie.mp4
    python samples/make_movie.py --train 1600 --val 200 --fps 1 -o movies
    python samples/make_movie.py --question order --gap 80 -o movie.mp4

The label is `returns` or `stranger`, and only who remembers the first door scene at the second one can tell. --question
asks something else of a movie of another kind, see samples/cottage/tales.py.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import av
from cottage.dataset import write_dataset
from cottage.film import Format, write
from cottage.scenes import Tale
from cottage.story import Story
from cottage.tales import MAX_GAP, MIN_GAP, QUESTIONS, tell


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="movie file, or folder of a data set")
    parser.add_argument("--seed", type=int, default=0, help="of the movie, or of a data set's first movie")
    parser.add_argument("--fps", type=int, default=Format.fps, help="frames a second (default: %(default)s)")
    parser.add_argument("--size", default="320x180", help="WIDTHxHEIGHT in pixels, both even (default: %(default)s)")
    parser.add_argument("--codec", default=Format.codec, help="FFmpeg's name of an encoder (default: %(default)s)")
    for split in ("train", "val", "test"):
        parser.add_argument(
            f"--{split}", type=int, default=0, metavar="N", help=f"movies of a data set's {split} split"
        )
    parser.add_argument("--question", choices=QUESTIONS, help="about the movie (default: the sample movie's)")
    parser.add_argument(
        "--gap", type=int, default=40, help="seconds that --question spans, of 112 (default: %(default)s)"
    )
    arguments = parser.parse_args()

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
    form = Format(arguments.fps, width, height, arguments.codec)
    question: Callable[[int], Tale] = (
        partial(tell, arguments.question, arguments.gap) if arguments.question else Story.from_seed
    )

    splits, first = {}, arguments.seed
    for split in ("train", "val", "test"):
        splits[split] = range(first, first + getattr(arguments, split))
        first = splits[split].stop
    try:
        if first > arguments.seed:
            print(write_dataset(arguments.output, splits, form, question))
        else:
            tale = question(arguments.seed)
            write(tale, arguments.output, form)
            print(f"{arguments.output}: {tale.label}, {tale.duration:.1f} s")
    except (av.FFmpegError, OSError, ValueError) as error:  # PyAV has a ValueError for an unknown suffix
        sys.exit(f"error: {arguments.output}: cannot be written with codec {form.codec}: {error}")


def _encodes_video(codec: str) -> bool:
    try:
        return av.Codec(codec, "w").type == "video"
    except ValueError:
        return False


if __name__ == "__main__":
    main()
