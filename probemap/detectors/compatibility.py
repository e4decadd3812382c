"""Check that a model is the one that a detector was fitted for.

Scores computed with other weights or prompts would be meaningless.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from probemap.detectors.provenance import CUSTOM_LOCATOR, FORMER_LOCATORS
from probemap.grading.locate import RULE_LOCATORS
from probemap.positions import Position, Rule, check_position
from probemap.records import DetectorError

if TYPE_CHECKING:
    from probemap.detectors.detector import Detector
    from probemap.models.engine import Engine
    from probemap.models.hooks import Site


def check_compatible(
    detector: Detector,
    engine: Engine,
    *,
    site: Site | None = None,
    positions: Mapping[str, str | Position | Rule] | None = None,
    has_locator: bool = False,
) -> None:
    """Raise an error if the detector cannot score texts with the model of this engine.

    Parameters
    ----------
    detector : Detector
    engine : Engine
    site : Site, optional
        The hook point, if the detector was fitted with a user-defined one.
    positions : mapping, optional
        The rules for the detector's user-defined positions.
    has_locator : bool
        Whether a user-defined locator was passed.

    Raises
    ------
    DetectorError
        If the detector has no provenance or an unknown locator, if the model does not have all layers that the detector
        reads, or if the weights, their quantisation, the chat template, the hidden size, the hook point or the locator
        differ from those used for fitting.
    DataError
        If the detector uses an unknown position.
    ModelError
        If the engine cannot record states at the hook point.
    """
    provenance, model = detector.required_provenance(), engine.model
    _check_locator(provenance.locator, has_locator)
    for cell in detector.cells:
        if cell.position not in (positions or {}):
            check_position(cell.position)
    for name, expected, actual in (
        ("weights", provenance.revision, model.revision),
        ("quantisation", provenance.quantize, model.quantize),
        ("chat template", provenance.template, model.template_sha256),
    ):
        if expected and expected != actual:
            raise DetectorError(
                f"the detector was fitted for {provenance.model} with {name} {expected[:16]}…, "
                f"but the model is {model.label} with {name} {actual[:16] or 'none'}",
                "load the model that the detector was fitted for, or fit a detector for this model",
            )
    max_layer, width = max(cell.layer for cell in detector.cells), detector.primary.weight.shape[1]
    if max_layer >= model.n_layers:
        raise DetectorError(
            f"the detector reads layer {max_layer}, but {model.label} has only {model.n_layers} layers",
            "load the model that the detector was fitted for",
        )
    if site is not None and site.name != provenance.site:
        raise DetectorError(
            f"the site is {site.name!r}, but the detector was fitted to states captured at {provenance.site!r}",
            "pass the site at which the states were captured",
        )
    if (d := engine.check_site(site or provenance.site)) != width:
        raise DetectorError(
            f"the detector reads states of width {width}, but the states of {model.label} have width {d}",
            "load the model that the detector was fitted for",
        )


def _check_locator(name: str, has_locator: bool) -> None:
    if (name == CUSTOM_LOCATOR) != has_locator:
        problem = (
            "the detector was fitted with a user-defined locator, but no locator was passed"
            if name == CUSTOM_LOCATOR
            else f"a locator was passed, but the detector was fitted with the locator {name!r}"
        )
        raise DetectorError(problem, "pass a locator if, and only if, the detector was fitted with a user-defined one")
    if name not in (CUSTOM_LOCATOR, "model", *RULE_LOCATORS, *FORMER_LOCATORS):
        raise DetectorError(
            f"the detector was fitted with the locator {name!r:.60}, which this version of probemap does not provide",
            f"the available locators are {', '.join(RULE_LOCATORS)} and model",
        )
