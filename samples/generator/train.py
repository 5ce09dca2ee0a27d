"""Makes the sample model from its seed: movies, frame encoder, S4 decoder, ONNX bundle.

    python -m samples.generator.train

Everything is determined by --seed. Takes about 20 minutes on two cores; needs `pip install '.[train,export]'`.
"""

import argparse
import logging
import sys
from pathlib import Path

import vis4mer
from samples.generator.dataset import write_dataset
from samples.generator.film import Format
from vis4mer.config import Preprocessing
from vis4mer.training.config import TrainConfig
from vis4mer.training.progress import EpochRecord
from vis4mer.training.settings import DataSettings, EncoderSettings, HeadSettings, TrainSettings

_ENCODER = "test_vit"  # timm's smallest: 0.3 M parameters
_IMAGE_SIZE = 64  # pixels: 16 patches and the class token
_ENCODER_MOVIES = 400

_BUNDLE = Path(__file__).parents[1] / "bundle"


def main() -> None:
    """Runs the recipe."""
    arguments = _parser().parse_args()
    try:
        import torch
        from safetensors.torch import save_file

        from samples.generator.encoder import train_encoder
    except ImportError as error:
        sys.exit(f"error: package={error.name!r}: must be installed; run pip install '.[train,export]'")

    logging.basicConfig(format="%(message)s")
    logging.getLogger("samples.generator").setLevel(logging.INFO)
    torch.set_num_threads(1)  # the order of sums depends on the number of threads, and so does the result
    work, seed = arguments.work, arguments.seed

    print(f"drawing {arguments.train + arguments.val} movies", flush=True)
    train_seeds = range(seed, seed + arguments.train)
    val_seeds = range(train_seeds.stop, train_seeds.stop + arguments.val)
    # The model samples one frame per second, so no other frames need to be drawn.
    listing = write_dataset(work / "movies", {"train": train_seeds, "val": val_seeds}, Format(fps=1))

    print("training the frame encoder", flush=True)
    preprocessing = Preprocessing(height=_IMAGE_SIZE, width=_IMAGE_SIZE)
    encoder = train_encoder(_ENCODER, preprocessing, work / "movies", train_seeds[:_ENCODER_MOVIES], seed)
    weights = work / "encoder.safetensors"
    save_file(encoder.vit.state_dict(), weights)

    print("training the S4 decoder", flush=True)
    checkpoint = _train_decoder(listing, preprocessing, weights, work / "run", seed, arguments.epochs)
    # The lowering with the smallest file, because every checkout carries the bundle.
    bundle = vis4mer.export(checkpoint, arguments.output, format="onnx", lowering="matmul_dft", force=True)
    print(f"wrote {bundle.path}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m samples.generator.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--work", type=Path, default=Path("build/sample"), help="scratch folder (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=_BUNDLE, help="folder of the bundle (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first movie and of all training")
    parser.add_argument("--train", type=int, default=1600, help="training movies (default: %(default)s)")
    parser.add_argument("--val", type=int, default=200, help="movies that select the best epoch (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=16, help="epochs of the S4 decoder (default: %(default)s)")
    return parser


def _train_decoder(
    listing: Path, preprocessing: Preprocessing, weights: Path, run: Path, seed: int, epochs: int
) -> Path:
    """Trains the S4 decoder on the encoder's tokens, and returns the checkpoint of the best epoch."""
    settings = TrainSettings(
        DataSettings(listing),
        encoder=EncoderSettings(_ENCODER, str(weights)),
        preprocessing=preprocessing,
        head=HeadSettings("visitor", d_model=64, n_layers=2, dropout=0.1),
        training=TrainConfig(epochs=epochs, batch_size=64, lr=3e-3, ssm_lr=1e-3, seed=seed),
    )
    return vis4mer.train(settings, run, device="cpu", on_epoch=_show_epoch).best


def _show_epoch(record: EpochRecord) -> None:
    print(
        f"epoch {record['epoch']}: loss {record['train_loss']:.4f}, accuracy {record['val_accuracy']:.1%}", flush=True
    )


if __name__ == "__main__":
    main()
