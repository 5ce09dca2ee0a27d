"""The model card: the README.md of a saved model's folder."""

import json
import re
from collections.abc import Iterator

from vis4mer.config import HeadConfig, ModelConfig

TEMPLATE = """\
---
{{ card_data }}
---

# ViS4mer for long videos

A Vision Transformer turns the frames of a video into tokens, and S4 decoders predict from the tokens of a window.

{% for fact in facts %}- {{ fact }}
{% endfor %}
All of this is stored in `config.json` and applied whenever the model runs.

{% if training %}## Training

{% for fact in training %}- {{ fact }}
{% endfor %}
`training.json` holds all settings.

{% endif %}## Use it

`FOLDER` is the folder of this file.

```bash
{% for command in commands %}{{ command }}
{% endfor %}```

```python
from vis4mer.models.vis4mer import Vis4mer

model = Vis4mer.from_pretrained("FOLDER")
```

## Citation

```bibtex
@inproceedings{islam2022long,
  title = {Long Movie Clip Classification with State-Space Video Models},
  author = {Islam, Md Mohaiminul and Bertasius, Gedas},
  booktitle = {European Conference on Computer Vision (ECCV)},
  year = {2022},
  url = {https://arxiv.org/abs/2204.01692}
}
```
"""
"""Jinja template of the card. Variables: ``card_data`` (the hub's metadata), ``facts``, ``training``, ``commands``."""

# Labels of a head that the card lists; the rest are counted.
_MOST_LABELS = 20


def facts(config: ModelConfig) -> Iterator[str]:
    """Yields a description of the model, one line of Markdown per fact; names and labels are escaped."""
    frames, windows, encoder = config.preprocessing, config.windows, config.encoder
    size = f"{frames.height} x {frames.width} pixels (height x width)"
    fitted = {"stretch": "stretched", "crop": "scaled and cropped"}[frames.resize]
    regular = frames.segments is None
    taken = f"{frames.fps:g} per second" if regular else f"{frames.segments} segments of consecutive ones"
    taken += ", and the last one" if frames.last_frame else ""
    yield f"Frames: {taken}, {fitted} to {size} with {frames.interpolation} interpolation"
    yield f"Pixels: RGB in [0, 1], less the mean {frames.mean}, divided by {frames.std}"
    if encoder is None:
        yield "Frame encoder: none; this checkpoint holds decoders only, whose input is features"
    else:
        library, span = (
            ("timm", "per frame") if encoder.frames == 1 else ("torchvision", f"per {encoder.frames} frames")
        )
        tokens = f"{encoder.tokens} tokens of {encoder.features} features {span}"
        yield f"Frame encoder: {library}'s {_code(encoder.name)}, {tokens}"
    if windows.samples is None:
        yield f"Windows: {windows.seconds:g} s of video, every {windows.stride:g} s"
    else:
        yield f"Windows: one, of {windows.samples} samples spread over the whole movie"
    for name, head in config.heads.items():
        yield f"Head {_code(name)}: {_task(head)}"


def commands(config: ModelConfig) -> Iterator[str]:
    """Yields the shell commands that apply to a model."""
    if config.windows.samples is not None:
        yield "vis4mer eval --help"
        return
    if config.encoder is not None:
        yield "vis4mer run movie.mp4 --bundle FOLDER"
    yield "vis4mer export --checkpoint FOLDER --format onnx --output BUNDLE"


def _task(head: HeadConfig) -> str:
    if head.task == "regression":
        return "regression of one value"
    labels = ", ".join(_code(json.dumps(label, ensure_ascii=False)) for label in head.labels[:_MOST_LABELS])
    more = ", ..." if len(head.labels) > _MOST_LABELS else ""
    return f"classification among {len(head.labels)}: {labels}{more}"


def _code(text: str) -> str:
    """Returns a Markdown code span, with a fence longer than any run of backticks within."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    # A backtick at an end of the text would join the fence. Markdown strips one space from either end.
    padding = " " if "`" in text else ""
    return f"{fence}{padding}{text}{padding}{fence}"
