"""Checks that a detector belongs to a model: a score from other weights or another prompt would be meaningless."""

from collections.abc import Mapping

from probemap.activations.forward import check_site
from probemap.activations.hooks import Site
from probemap.detectors.detector import Detector
from probemap.detectors.provenance import CUSTOM_LOCATOR
from probemap.grading.locate import LOCATORS
from probemap.models.model import Model
from probemap.positions import Position, Rule, check_position
from probemap.records import DetectorError


def check_compatible(
    detector: Detector,
    model: Model,
    *,
    site: Site | None = None,
    positions: Mapping[str, str | Position | Rule] | None = None,
    has_locator: bool = False,
) -> None:
    """Raise an error if the detector cannot score texts with this model.

    Parameters
    ----------
    detector : Detector
    model : Model
    site : Site, optional
        The user-defined site of the detector.
    positions : mapping, optional
        The user-defined positions of the detector.
    has_locator : bool
        Whether a user-defined locator is available.

    Raises
    ------
    DetectorError
        If the provenance is unknown; the weights, their quantisation or the chat template differ; the model has too few
        layers or states of another width; or the locator is unknown.
    DataError
        If a position of the detector is unknown.
    ModelError
        If the hook point cannot be identified in the model.
    """
    provenance = detector.required_provenance()
    _check_locator(provenance.locator, has_locator)
    for cell in detector.cells:
        if cell.position not in (positions or {}):
            check_position(cell.position)
    for name, expected, actual in (
        ("weights", provenance.revision, model.revision),
        ("weights in", provenance.quantize, model.quantize),
        ("chat template", provenance.template, model.template_sha256),
    ):
        if expected and expected != actual:
            raise DetectorError(
                f"the detector was fitted for {provenance.model} with {name} {expected[:16]}…, "
                f"the model is {model.label} with {actual[:16] or 'none'}",
                "load the model that the detector was fitted for, or fit a detector for this one",
            )
    max_layer, width = max(cell.layer for cell in detector.cells), detector.primary.weight.shape[1]
    if max_layer >= model.n_layers:
        raise DetectorError(
            f"the detector reads layer {max_layer}, but {model.label} has {model.n_layers} layers",
            "load the model that the detector was fitted for",
        )
    if site is not None and site.name != provenance.site:
        raise DetectorError(
            f"the site is {site.name!r}, but the detector reads {provenance.site!r}",
            "pass the site that the states were captured at",
        )
    if (d := check_site(model, site or provenance.site)) != width:
        raise DetectorError(
            f"the detector reads states of width {width}, those of {model.label} have {d}",
            "load the model that the detector was fitted for",
        )


def _check_locator(name: str, has_locator: bool) -> None:
    if (name == CUSTOM_LOCATOR) != has_locator:
        problem = (
            "the exact answers of the detector were located by a user-defined locator, and none was passed"
            if name == CUSTOM_LOCATOR
            else f"a locator was passed, but the exact answers of the detector were located by {name!r}"
        )
        raise DetectorError(problem, "pass the locator that the detector was fitted with, and no other")
    if name not in (CUSTOM_LOCATOR, "model", *LOCATORS):
        raise DetectorError(
            f"the exact answers of the detector were located by {name!r:.60}, which this version does not know",
            f"the locators are {', '.join(LOCATORS)} and model",
        )
