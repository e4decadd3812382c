"""Where in the hidden states of a language model can you read that its answer is incorrect?

The public names, in the order of the data flow: data, answer, grade, locate, capture, map, figure, detector.  A name is
imported on first use, so that ``import probemap`` does not load torch.
"""

from importlib import import_module
from importlib.metadata import version
from typing import Any

_MODULE_OF = {
    "Example": "records",
    "Task": "records",
    "Answer": "records",
    "Verdict": "records",
    "Span": "records",
    "Judgement": "records",
    "ProbemapError": "records",
    "POSITIONS": "positions",
    "Position": "positions",
    "parse_positions": "positions",
    "resolve": "positions",
    "grade": "grading.rules",
    "locate": "grading.locate",
    "llm_grader": "grading.llm",
    "llm_locator": "grading.llm",
    "TASKS": "tasks.builtin",
    "load_task": "tasks.loading",
    "load_model": "models.model",
    "Endpoint": "models.loading",
    "ask": "models.ask",
    "ActivationStore": "activations.store",
    "Activations": "activations.capture",
    "capture": "activations.capture",
    "ProbeMap": "maps.probe_map",
    "fit_map": "maps.fit",
    "fit_logistic": "probing.logistic.solver",
    "with_baselines": "maps.gain",
    "plot_map": "views.heatmap",
    "plot_maps": "views.heatmap",
    "plot_difference": "views.heatmap",
    "plot_curves": "views.curves",
    "Provenance": "detectors.provenance",
    "Detector": "detectors.detector",
    "fit_detector": "detectors.fit",
    "Score": "detectors.scorer",
    "Scorer": "detectors.scorer",
    "load_scorer": "detectors.loading",
    "generate_with_score": "detectors.scorer",
    "Run": "runs.run",
    "run_step": "runs.execution",
    "run_all": "runs.pipeline",
    "STEPS": "runs.definitions",
    "Context": "runs.plan",
}

__all__ = sorted([*_MODULE_OF, "__version__"])
__version__ = version("probemap")


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'probemap' has no attribute {name!r}")
    return getattr(import_module(f"probemap.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
