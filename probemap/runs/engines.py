"""Start the engine that runs the model of a run.

This is the only module of the workflow that names implementations of engines.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from probemap.records import RunError

if TYPE_CHECKING:
    from probemap.models.engine import Engine
    from probemap.models.loading import Loader
    from probemap.runs.plan import Context


def open_engine(loader: Loader, context: Context) -> Engine:
    """Return the engine that the context selects, with the model that the loader describes.

    A loaded model and a started engine are kept in the context.

    Raises
    ------
    ModelError
        If the model cannot be loaded.
    RunError
        If options are given that vLLM does not have.
    """
    if context.engine == "transformers":
        from probemap.models.transformers_engine import TransformersEngine

        return TransformersEngine(loader.load(context.models))
    from probemap.models.vllm_engine import VLLMEngine

    if loader.quantize or loader.max_memory or loader.device != "auto":
        raise RunError(
            "--quantize, --device and --max-memory apply to transformers only, but the engine is vLLM",
            "omit these options, or use --engine local",
        )
    model = replace(loader, device="meta").load(context.models)
    weights = replace(loader, template=None, date=None, dtype=model.dtype)
    if weights not in context.engines:
        context.engines[weights] = VLLMEngine(model)
    engine = context.engines[weights]
    assert isinstance(engine, VLLMEngine)
    return engine.with_model(model)
