"""`load_scorer`: loads a detector together with the model that it was fitted for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from probemap.detectors.detector import Detector
from probemap.detectors.scorer import Scorer
from probemap.models.engines import load_engine
from probemap.records import DetectorError, ProbemapError

if TYPE_CHECKING:
    from probemap.models.engine import Engine
    from probemap.models.engines import EngineName
    from probemap.models.model import Model

_COMMIT_LENGTH = 40
"""Number of hexadecimal digits in a commit hash on the hub.

The revision of a local model is a SHA-256 hash, which has 64 digits.
"""


def load_scorer(
    detector: str | Path | Detector,
    *,
    model: str | Path | Model | Engine | None = None,
    engine: EngineName = "transformers",
    device: str = "auto",
    dtype: str = "auto",
    false_alarms: float | None = None,
    batch_size: int = 32,
) -> Scorer:
    """Load a detector and its model, using the revision, dtype and quantisation that the detector was fitted with.

    Parameters
    ----------
    detector : str, Path or Detector
        A directory written by ``probemap export``, an address ``hf://owner/name[@revision]``, or a loaded detector.
    model : str, Path, Model, Engine or None
        The loaded model, an engine that runs it, or the hub id, directory, file or alias to load it from.  If None, the
        location stored in the detector is used.
    engine : {"transformers", "vllm"}
        Library that runs a model that is loaded.
    device : str
        See `load_model`.
    dtype : str
        The dtype of the weights.  ``auto`` uses the dtype that the detector was fitted with.
    false_alarms : float or None
        One of the false-alarm rates for which the detector has a threshold.  If None, the lowest rate is used.
    batch_size : int
        Number of answers per forward pass.

    Returns
    -------
    Scorer
        A scorer.  ``scorer.engine.close()`` ends the processes of an engine that was started.

    Raises
    ------
    DetectorError
        If the detector cannot be read, has no provenance, was fitted for a different model, or does not record where
        its model was loaded from.
    ModelError
        If the model cannot be loaded.

    Examples
    --------
    >>> from probemap import load_scorer
    >>> load_scorer("no-such-directory")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    probemap.records.DetectorError: no-such-directory does not contain a detector ...
    """
    if not isinstance(detector, Detector):
        detector = Detector.load(detector)
    provenance = detector.required_provenance()
    opened = None
    if model is None or isinstance(model, str | Path):
        source = model or provenance.name
        if not source:
            raise DetectorError(
                f"the detector does not record where its model {provenance.model} was loaded from",
                "pass the argument model, or --model on the command line",
            )
        # The commit is passed because the branches of a hub repository can move.  Local files have no such revisions.
        commit = provenance.revision if len(provenance.revision) == _COMMIT_LENGTH else None
        opened = load_engine(
            source,
            engine,
            revision=commit,
            device=device,
            dtype=(provenance.dtype or dtype) if dtype == "auto" else dtype,
            quantize=provenance.quantize or None,
        )
        model = opened.with_model(opened.model.with_template_sha256(provenance.template))
    try:
        return Scorer(detector, model, false_alarms, batch_size)
    except ProbemapError:
        if opened is not None:
            opened.close()
        raise
