"""The provenance of a detector: its model, its task, its hook point, its locator.

The score of a text depends on all four: they determine the prompt, the tokens and the states that the probes read.
"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from probemap.records import Task

if TYPE_CHECKING:  # a provenance is read and written without a model
    from probemap.models.model import Model


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """The model, the task, the hook point and the locator that a detector was fitted with.

    Detectors that were fitted by `probemap export` have it.  For `fit_detector` it is built with `Provenance.of`.
    Empty strings mean "unknown"; an unknown value is not compared with the model that is loaded for scoring.

    Parameters
    ----------
    model : str
        Short name of the model, for display.
    task : Task
        How questions are put to the model, without the questions themselves.
    frame : {"chat", "qa", "none", "given"}
        What surrounds a prompt: the chat template, ``Q: … A:``, or nothing.  ``given``: every prompt came with its
        answer, so that scoring a text needs its prompt as well.
    locator : str
        The name of the locator that finds the exact answer, a key of `LOCATORS`, or ``model``.
    site : str
        The hook point in each block.
    name : str
        What the model was loaded by: a hub id, a directory, a file or an alias.
    revision : str
        The commit of the hub, or the SHA-256 of the local files.
    dtype : str
        The dtype of the weights.
    template : str
        SHA-256 of the tokenizer's chat template.
    quantize : {"", "4bit", "8bit"}
        Quantisation at load time, which the revision does not identify.
    versions : dict of str to str
        Package versions, for information.

    Examples
    --------
    >>> from probemap import Provenance, Task
    >>> task = Task("capitals", (), "open", prompt="{question} Answer briefly.")
    >>> Provenance(model="my-model", task=task, frame="qa", locator="none").site
    'resid'
    """

    model: str
    task: Task
    frame: Literal["chat", "qa", "none", "given"]
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
        model: "Model",
        task: Task,
        *,
        site: str = "resid",
        locator: str | None = None,
        frame: Literal["auto", "chat", "qa", "none", "given"] = "auto",
        name: str = "",
    ) -> "Provenance":
        """Return the provenance of states that were captured in code.

        Parameters
        ----------
        model : Model
            The model that answered and whose states were captured, from `load_model`.
        task : Task
            The task whose questions were asked.
        site : str
            The hook point that was captured.
        locator : str or None
            The locator that was used; None: the default of the task's kind.
        frame : {"auto", "chat", "qa", "none", "given"}
            What surrounded the prompts; ``auto``: the chat template if the model has one, else ``Q: … A:``.
        name : str
            What the model was loaded by; stored so that `probemap score` can load it again.

        Raises
        ------
        ModelError
            If `frame` is ``chat`` and the model has no chat template.
        """
        from probemap.models.prompts import resolve_prompt_format

        return cls(
            model=model.label,
            task=task,
            frame="given" if frame == "given" else resolve_prompt_format(model, frame),
            locator=locator or ("model" if task.kind == "open" else task.kind),
            site=site,
            name=name,
            revision=model.revision,
            dtype=model.dtype,
            template=model.template_sha256,
            quantize=model.quantize,  # type: ignore[arg-type]
        )
