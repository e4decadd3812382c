"""The provenance of a detector: its model, task, hook point and locator.

The score of a text depends on all four, because they determine the prompt, the token ids, and the hidden states that
the probes read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from probemap.records import DetectorError, Kind, Task

if TYPE_CHECKING:  # not imported at run time, because a provenance is read and written without a model
    from probemap.activations.activations import Activations
    from probemap.models.hooks import Site
    from probemap.models.model import Model

CUSTOM_LOCATOR = "custom"
"""Value of `Provenance.locator` for a user-defined locator.

Such a locator is not stored with the detector and must be passed to `Scorer`.
"""

FORMER_LOCATORS: dict[str, Kind] = {"names": "names", "numbers": "numbers", "choices": "choices"}
"""Locators of earlier versions.  They are the rules for questions of the given kind."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """The model, the task, the hook point and the locator that a detector was fitted with.

    Detectors created by ``probemap export`` have a provenance.  To pass one to `fit_detector`, use `Provenance.of`.
    An empty string means that a value is unknown.  Unknown values are not checked against the model that is used for
    scoring.

    Parameters
    ----------
    model : str
        Short model name, for display.
    task : Task
        The task, which defines how questions are presented to the model.  Its questions are not stored.
    prompt_format : {"chat", "qa", "none", "given"}
        The format of the prompts: the model's chat template (``chat``), ``Q: … A:`` (``qa``), or the plain question
        (``none``).  ``given`` means that every answer was supplied with its own prompt.  In that case, each text to be
        scored also requires its own prompt.
    locator : str
        The locator of the exact answer: ``rules``, ``none``, ``model``, or ``custom`` for a user-defined one.
    site : str
        The hook point at which the states are captured in each block.
    name : str
        The hub id, directory, file or alias from which the model was loaded.
    revision : str
        The commit on the hub, or the SHA-256 of the local files.
    dtype : str
        The dtype of the weights.
    template : str
        SHA-256 of the tokenizer's chat template.
    quantize : {"", "4bit", "8bit"}
        The quantisation that is applied when the model is loaded.  It cannot be inferred from the revision.
    versions : dict of str to str
        Versions of the installed packages, for information only.

    Examples
    --------
    >>> from probemap import Provenance, Task
    >>> task = Task("capitals", (), "open", prompt="{question} Answer briefly.")
    >>> Provenance(model="my-model", task=task, prompt_format="qa", locator="none").site
    'resid'
    """

    model: str
    task: Task
    prompt_format: Literal["chat", "qa", "none", "given"]
    locator: str
    site: str = "resid"
    name: str = ""
    revision: str = ""
    dtype: str = ""
    template: str = ""
    quantize: Literal["", "4bit", "8bit"] = ""
    versions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.task.examples:
            object.__setattr__(self, "task", replace(self.task, examples=()))

    @classmethod
    def of(
        cls,
        source: Model | Activations,
        task: Task,
        *,
        site: str | Site | None = None,
        locator: str | Callable[[str, str], tuple[int, int] | None] | None = None,
        prompt_format: Literal["auto", "chat", "qa", "none", "given"] = "auto",
        name: str = "",
    ) -> Provenance:
        """Create the provenance of states that were captured with the Python API.

        Parameters
        ----------
        source : Model or Activations
            The model that generated the answers and whose states were captured, or the activations returned by
            `capture`.
        task : Task
            The task whose questions were asked.
        site : str or Site, optional
            The hook point at which the states were captured.  The default is the hook point of the activations, or
            ``resid`` if `source` is a model.
        locator : str or callable, optional
            The name of the locator that was used, or a user-defined locator, which must also be passed to `Scorer`.  By
            default, it is ``rules``.
        prompt_format : {"auto", "chat", "qa", "none", "given"}
            The format of the prompts; see `Provenance`.  ``auto`` stands for ``chat`` if the model has a chat template,
            and for ``qa`` otherwise.
        name : str
            The hub id, directory, file or alias from which the model was loaded.  `load_scorer` uses it to load the
            model again.

        Returns
        -------
        Provenance

        Raises
        ------
        DetectorError
            If `site` differs from the hook point of the activations, or if `prompt_format` is ``chat`` but the model
            has no chat template.
        """
        from probemap.activations.activations import Activations

        if isinstance(source, Activations):
            model, captured_site, template = source.model, source.site, source.template
        else:
            model, captured_site, template = source.label, None, source.template_sha256
        site_name = site if isinstance(site, str | None) else site.name
        if site_name and captured_site and site_name != captured_site:
            raise DetectorError(
                f"the site is {site_name!r}, but the activations were captured at {captured_site!r}", "omit site"
            )
        if prompt_format == "auto":
            prompt_format = "chat" if template else "qa"
        elif prompt_format == "chat" and not template:
            raise DetectorError(f"{model} has no chat template", "use prompt_format='qa' or 'none'")
        return cls(
            model=model,
            task=task,
            prompt_format=prompt_format,
            locator=CUSTOM_LOCATOR if callable(locator) else locator or "rules",
            site=site_name or captured_site or "resid",
            name=name,
            revision=source.revision,
            dtype=source.dtype,
            template=template,
            quantize=source.quantize,  # type: ignore[arg-type]
        )
