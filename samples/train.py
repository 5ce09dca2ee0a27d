"""Makes the sample model from nothing: movies, frame encoder, S4 decoder, ONNX bundle.

    python samples/train.py

Everything follows from --seed. About 20 minutes on two cores; needs `pip install '.[train,export]'`.
"""

import argparse
import logging
import shlex
import sys
from pathlib import Path

from cottage.dataset import write_dataset
from cottage.film import Format

from vis4mer.cli.main import main as vis4mer
from vis4mer.config import Preprocessing

_ENCODER = "test_vit"  # timm's smallest: 0.3 M parameters
_IMAGE_SIZE = 64  # pixels: 16 patches and the class token
_ENCODER_MOVIES = 400

_SAMPLES = Path(__file__).parent


def main() -> None:
    """Runs the recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build/sample"), help="scratch folder (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=_SAMPLES / "bundle", help="the bundle (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first movie and of all training")
    parser.add_argument("--train", type=int, default=1600, help="movies to learn from (default: %(default)s)")
    parser.add_argument("--val", type=int, default=200, help="movies to pick the best epoch by (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=16, help="of the S4 decoder (default: %(default)s)")
    arguments = parser.parse_args()
    try:
        import torch
        from cottage.encoder import train_encoder
        from safetensors.torch import save_file
    except ImportError as error:
        sys.exit(f"error: package={error.name!r}: is needed for training; pip install '.[train,export]'")

    logging.basicConfig(format="%(message)s")
    logging.getLogger("cottage").setLevel(logging.INFO)
    torch.set_num_threads(1)  # sums depend on the number of threads, and so would the result
    work, seed = arguments.work, arguments.seed

    print(f"drawing {arguments.train + arguments.val} movies", flush=True)
    train_seeds = range(seed, seed + arguments.train)
    val_seeds = range(train_seeds.stop, train_seeds.stop + arguments.val)
    # The model looks once a second, so that is all that has to be drawn.
    listing = write_dataset(work / "movies", {"train": train_seeds, "val": val_seeds}, Format(fps=1))

    print("training the frame encoder", flush=True)
    preprocessing = Preprocessing(height=_IMAGE_SIZE, width=_IMAGE_SIZE)
    encoder = train_encoder(_ENCODER, preprocessing, work / "movies", train_seeds[:_ENCODER_MOVIES], seed)
    weights = work / "encoder.safetensors"
    save_file(encoder.vit.state_dict(), weights)

    run = work / "run"
    _vis4mer(
        f"train {listing} --output {run} --seed {seed} --device cpu "
        f"--encoder {_ENCODER} --encoder-weights {weights} --image-size {_IMAGE_SIZE} "
        f"--head visitor --d-model 64 --n-layers 2 --dropout 0.1 "
        f"--epochs {arguments.epochs} --batch-size 64 --lr 3e-3 --ssm-lr 1e-3"
    )
    # Of all lowerings the smallest: a bundle that every checkout carries is worth more small than fast.
    _vis4mer(f"export --checkpoint {run / 'best'} --format onnx --lowering matmul_dft --output {arguments.output}")


def _vis4mer(command: str) -> None:
    print(f"$ vis4mer {command}", flush=True)
    if code := vis4mer(shlex.split(command), prog_name="vis4mer", standalone_mode=False):
        sys.exit(code)


if __name__ == "__main__":
    main()
