"""`load_scorer`: a detector together with the model that it was fitted for."""

from pathlib import Path

from probemap.detectors.detector import Detector
from probemap.detectors.scorer import Scorer
from probemap.models.model import Model, load_model
from probemap.records import DetectorError

_COMMIT_LENGTH = 40
"""Hexadecimal digits of a commit of the hub; the revision of local files is a SHA-256, which has 64."""


def load_scorer(
    detector: str | Path | Detector,
    *,
    model: str | Path | Model | None = None,
    device: str = "auto",
    dtype: str = "auto",
    false_alarms: float | None = None,
    batch_size: int = 32,
) -> Scorer:
    """Load a detector and its model, in the revision, dtype and quantisation that the detector was fitted with.

    Parameters
    ----------
    detector : str, Path or Detector
        A directory that ``probemap export`` wrote, ``hf://owner/name[@revision]``, or a detector.
    model : str, Path, Model or None
        Where the model is, or the loaded model.  None: where it was when the detector was fitted.
    device : str
        As for `load_model`.
    dtype : str
        The dtype of the weights; ``auto``: that of the provenance.
    false_alarms : float or None
        The false-alarm rate of the threshold; None: the lowest that the detector has a threshold for.
    batch_size : int
        Answers per forward pass.

    Returns
    -------
    Scorer

    Raises
    ------
    DetectorError
        If the detector cannot be read, has no provenance, was fitted for another model, or does not name its model.
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
    if not isinstance(model, Model):
        source = model or provenance.name
        if not source:
            raise DetectorError(
                f"the provenance of the detector does not state what its model {provenance.model} was loaded by",
                "pass model=, or --model",
            )
        # A commit pins a repository of the hub, whose branches move.  Local files have no revisions to choose from.
        commit = provenance.revision if len(provenance.revision) == _COMMIT_LENGTH else None
        model = load_model(
            source,
            revision=commit,
            device=device,
            dtype=(provenance.dtype or dtype) if dtype == "auto" else dtype,
            quantize=provenance.quantize or None,
        )
    return Scorer(detector, model, false_alarms, batch_size)
