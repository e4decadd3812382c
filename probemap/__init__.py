"""Where in a language model's hidden states can you read that its answer is wrong?

The public names, in the order of the way through the house:
data -> answer -> judge -> locate -> capture -> map -> figure -> detector.  Nothing heavy is imported until it is used.
"""

from importlib import import_module
from importlib.metadata import version
from typing import Any

# A function that is named as its room is imported from there: `from probemap.verdicts.judge import judge`.
_ROOM_OF = {
    "Example": "records",
    "Task": "records",
    "Answer": "records",
    "Verdict": "records",
    "Span": "records",
    "Judgement": "records",
    "ProbemapError": "records",
    "POSITIONS": "verdicts.positions",
    "resolve": "verdicts.positions",
    "TASKS": "questions.data",
    "load_examples": "questions.data",
    "load_task": "questions.data",
    "load_model": "models.model",
    "generate_answers": "models.generate",
    "ActivationStore": "states.activations",
    "ProbeMap": "probes.map",
    "fit_map": "probes.fit",
    "fit_logistic": "probes.solver",
    "with_baselines": "probes.gain",
    "plot_map": "pictures.figure",
    "Detector": "detectors.detector",
    "fit_detector": "detectors.detecting",
    "Score": "detectors.scoring",
    "Scorer": "detectors.scoring",
    "generate_with_score": "detectors.scoring",
}

__all__ = sorted([*_ROOM_OF, "__version__"])
__version__ = version("probemap")


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'probemap' has no attribute {name!r}")
    return getattr(import_module(f"probemap.{_ROOM_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
