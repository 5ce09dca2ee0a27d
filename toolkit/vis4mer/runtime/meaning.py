"""Checks that a bundle's manifest still describes its graphs as they were exported.

Digests show that files belong to a manifest, but whoever changes a manifest can compute its digest anew. A bundle's
cases record what the exported model answered, in words, and from which pictures.
"""

from typing import Any

import numpy as np

from vis4mer.config import ModelConfig
from vis4mer.errors import BundleError
from vis4mer.runtime.bundle import Bundle
from vis4mer.runtime.cases import CASES_FILE, MOVIE, Cases, GraphCases
from vis4mer.runtime.interface import ENCODER
from vis4mer.video.resize import resize

# BLAS libraries sum in different orders, so a value near the middle between two levels may be rounded to either.
_LARGEST_DIFFERENCE = 1

_CHANGED = "the manifest was changed after the export; copy the bundle again, or export it again"


def check_labels(head: str, model: ModelConfig, cases: GraphCases, answers: list[int]) -> None:
    """Checks that a head's answers have the names that the exported model gave them.

    Args:
        head: Name of the head.
        model: The manifest's model, which names the outputs.
        cases: Cases of the head.
        answers: Index of the largest output in each case.

    Raises:
        BundleError: An answer has another name.
    """
    if cases.labels is None:
        return
    names = model.heads[head].labels
    for kind, index, expected in zip(cases.kinds, answers, cases.labels, strict=True):
        if names[index] != expected:
            rule = f"answers {names[index]!r} to a {kind} input, where the exported model answered {expected!r}"
            raise BundleError.of("head", head, rule, _CHANGED)


def check_model(bundle: Bundle, cases: Cases) -> None:
    """Checks that the manifest describes what was exported: labels, preprocessing, windows, sizes and the precision.

    Raises:
        BundleError: A value differs; the first is named.
    """
    if cases.precision not in (None, bundle.precision):
        raise BundleError.of("precision", bundle.precision, f"was {cases.precision!r} in the export", _CHANGED)
    exported = cases.model
    if exported is None:
        return
    if (difference := _first_difference(bundle.model.to_dict(), exported.to_dict())) is not None:
        key, ours, theirs = difference
        raise BundleError.of(f"model{key}", ours, f"was {theirs!r} in the exported model", _CHANGED)


def check_pictures(bundle: Bundle, cases: Cases) -> None:
    """Checks that resizing, as a video reader does it, turns the stored pictures into the encoder's inputs.

    Raises:
        BundleError: An input differs by more than rounding.
    """
    if cases.pictures is None or bundle.model.encoder is None:
        return
    known = cases.of(ENCODER, bundle.interface[ENCODER])
    inputs = known.inputs[[kind == MOVIE for kind in known.kinds]]
    if len(inputs) != len(cases.pictures):
        rule = f"holds {len(cases.pictures)} pictures of {len(inputs)} inputs from a movie"
        raise BundleError.of("file", CASES_FILE, rule, "export the bundle again")
    for number, (picture, expected) in enumerate(zip(cases.pictures, inputs, strict=True)):
        resized = resize(np.moveaxis(picture, -1, 0), bundle.model.preprocessing)
        # Subtraction of uint8 would wrap around.
        largest = int(np.abs(resized.astype(np.int16) - expected).max())
        if largest > _LARGEST_DIFFERENCE:
            rule = f"resizes picture {number} of the cases to pixels up to {largest} levels off those of the export"
            raise BundleError.of("preprocessing", bundle.model.preprocessing.resize, rule, _CHANGED)


def not_compared(bundle: Bundle) -> tuple[str, ...]:
    """Returns what the verification of a bundle leaves open, and why: a clause for each point.

    Bundles of earlier versions store less, and an export without a movie stores no pictures.

    Raises:
        BundleError: The bundle's cases are missing or damaged.
    """
    cases = Cases.from_bytes(bundle.read(CASES_FILE))
    open_points = []
    if bundle.digest is None:
        open_points.append("the manifest itself, which has no digest before schema 3")
    if cases.model is None:
        open_points.append("labels and preprocessing, which these cases do not record")
    if bundle.model.encoder is not None and cases.pictures is None:
        open_points.append("resizing, because these cases hold no pictures of a movie")
    return tuple(open_points)


def _first_difference(ours: Any, theirs: Any, key: str = "") -> tuple[str, Any, Any] | None:
    """Returns the path and both values of the first difference between two JSON values; None if they are equal."""
    if not (isinstance(ours, dict) and isinstance(theirs, dict)):
        return None if ours == theirs else (key, ours, theirs)
    for name in (*ours, *(name for name in theirs if name not in ours)):
        found = _first_difference(ours.get(name), theirs.get(name), f"{key}.{name}")
        if found is not None:
            return found
    return None
