"""Maps that show where a language model's hidden states reveal that its answer is incorrect.

The package exports functions and classes for the whole workflow, from generating answers and capturing hidden states to
fitting maps and detectors.  Each of them is imported on first use, so that ``import probemap`` does not load torch.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # type checkers and editors cannot read _MODULE_OF; a test compares the two lists
    from probemap.activations.activations import Activations as Activations
    from probemap.activations.capture import capture as capture
    from probemap.activations.store import ActivationStore as ActivationStore
    from probemap.detectors.detector import Detector as Detector
    from probemap.detectors.fit import fit_detector as fit_detector
    from probemap.detectors.hub import push_to_hub as push_to_hub
    from probemap.detectors.loading import load_scorer as load_scorer
    from probemap.detectors.provenance import Provenance as Provenance
    from probemap.detectors.scorer import Scorer as Scorer
    from probemap.detectors.scores import GenerationResult as GenerationResult
    from probemap.detectors.scores import Score as Score
    from probemap.grading.llm import LLMJudge as LLMJudge
    from probemap.grading.llm import llm_grader as llm_grader
    from probemap.grading.llm import llm_locator as llm_locator
    from probemap.grading.locate import locate as locate
    from probemap.grading.rules import grade as grade
    from probemap.logger import Logger as Logger
    from probemap.maps.fit import fit_map as fit_map
    from probemap.maps.gain import with_baselines as with_baselines
    from probemap.maps.probe_map import ProbeMap as ProbeMap
    from probemap.maps.strata import with_strata as with_strata
    from probemap.models.ask import ask as ask
    from probemap.models.endpoint import Endpoint as Endpoint
    from probemap.models.engine import Engine as Engine
    from probemap.models.engines import load_engine as load_engine
    from probemap.models.hooks import HookPoint as HookPoint
    from probemap.models.hooks import Site as Site
    from probemap.models.model import Model as Model
    from probemap.models.model import load_model as load_model
    from probemap.positions import POSITIONS as POSITIONS
    from probemap.positions import Position as Position
    from probemap.positions import parse_positions as parse_positions
    from probemap.positions import resolve as resolve
    from probemap.probing.baselines import Baseline as Baseline
    from probemap.probing.baselines import compute_baselines as compute_baselines
    from probemap.probing.baselines import covariate_baseline as covariate_baseline
    from probemap.probing.difference import difference as difference
    from probemap.probing.logistic.solver import fit_logistic as fit_logistic
    from probemap.records import Answer as Answer
    from probemap.records import Example as Example
    from probemap.records import Judgement as Judgement
    from probemap.records import ProbemapError as ProbemapError
    from probemap.records import Span as Span
    from probemap.records import Task as Task
    from probemap.records import Verdict as Verdict
    from probemap.runs.definitions import STEPS as STEPS
    from probemap.runs.execution import run_step as run_step
    from probemap.runs.pipeline import run_all as run_all
    from probemap.runs.plan import Context as Context
    from probemap.runs.run import Run as Run
    from probemap.studies.audit_draw import AuditDraw as AuditDraw
    from probemap.studies.audit_draw import draw_audit as draw_audit
    from probemap.studies.label_errors import LabelAudit as LabelAudit
    from probemap.studies.label_errors import audit_labels as audit_labels
    from probemap.tasks.builtin import TASKS as TASKS
    from probemap.tasks.leaks import LeakCheck as LeakCheck
    from probemap.tasks.leaks import find_leaks as find_leaks
    from probemap.tasks.loading import load_task as load_task
    from probemap.views.curves import plot_curves as plot_curves
    from probemap.views.heatmap import MapDisplay as MapDisplay
    from probemap.views.heatmap import plot_difference as plot_difference
    from probemap.views.heatmap import plot_map as plot_map
    from probemap.views.heatmap import plot_maps as plot_maps

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
    "LLMJudge": "grading.llm",
    "llm_grader": "grading.llm",
    "llm_locator": "grading.llm",
    "TASKS": "tasks.builtin",
    "load_task": "tasks.loading",
    "find_leaks": "tasks.leaks",
    "LeakCheck": "tasks.leaks",
    "load_model": "models.model",
    "Model": "models.model",
    "Endpoint": "models.endpoint",
    "ask": "models.ask",
    "ActivationStore": "activations.store",
    "Activations": "activations.activations",
    "Engine": "models.engine",
    "load_engine": "models.engines",
    "Site": "models.hooks",
    "HookPoint": "models.hooks",
    "capture": "activations.capture",
    "ProbeMap": "maps.probe_map",
    "fit_map": "maps.fit",
    "fit_logistic": "probing.logistic.solver",
    "Baseline": "probing.baselines",
    "compute_baselines": "probing.baselines",
    "covariate_baseline": "probing.baselines",
    "with_baselines": "maps.gain",
    "with_strata": "maps.strata",
    "draw_audit": "studies.audit_draw",
    "AuditDraw": "studies.audit_draw",
    "audit_labels": "studies.label_errors",
    "LabelAudit": "studies.label_errors",
    "MapDisplay": "views.heatmap",
    "difference": "probing.difference",
    "plot_map": "views.heatmap",
    "plot_maps": "views.heatmap",
    "plot_difference": "views.heatmap",
    "plot_curves": "views.curves",
    "Provenance": "detectors.provenance",
    "Detector": "detectors.detector",
    "fit_detector": "detectors.fit",
    "Score": "detectors.scores",
    "Scorer": "detectors.scorer",
    "load_scorer": "detectors.loading",
    "GenerationResult": "detectors.scores",
    "push_to_hub": "detectors.hub",
    "Run": "runs.run",
    "run_step": "runs.execution",
    "run_all": "runs.pipeline",
    "STEPS": "runs.definitions",
    "Context": "runs.plan",
    "Logger": "logger",
}

__all__ = sorted([*_MODULE_OF, "__version__"])
__version__ = version("probemap")


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'probemap' has no attribute {name!r}")
    return getattr(import_module(f"probemap.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
