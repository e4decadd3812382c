"""The engines by name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import torch

from probemap.models.transformers_engine import TransformersEngine
from probemap.records import ModelError

if TYPE_CHECKING:
    from probemap.models.engine import Engine
    from probemap.models.loading import Loader, Models

EngineName = Literal["transformers", "vllm"]
"""Library that runs a model."""


def open_engine(name: EngineName, loader: Loader, models: Models, engines: dict[Loader, Engine]) -> Engine:
    """Return an engine with the model that the loader describes.

    Parameters
    ----------
    name : {"transformers", "vllm"}
    loader : Loader
    models : dict
        The models that have been loaded.  The model is added if it is loaded.
    engines : dict
        The engines that have been started.  The engine is added if it is started.

    Raises
    ------
    ModelError
        If the model cannot be loaded, or if the loader has options that do not apply to vLLM.
    """
    if name == "transformers":
        return TransformersEngine(loader.load(models))
    from probemap.models.vllm_engine import VLLMEngine
    from probemap.models.vllm_loading import VLLMOptions

    if loader.quantize or loader.max_memory or loader.device not in ("auto", "spread"):
        raise ModelError(
            "the engine is vLLM, which has no quantisation, maximum memory or device like those of transformers: got "
            f"quantize={loader.quantize}, max_memory={loader.max_memory}, device={loader.device}",
            "use only the device auto or spread; select GPUs with the environment variable CUDA_VISIBLE_DEVICES",
        )
    model = replace(loader, device="meta").load(models)
    weights = replace(loader, template=None, date=None, dtype=model.dtype)
    if weights not in engines:
        n_devices = max(1, torch.cuda.device_count()) if loader.device == "spread" else 1
        engines[weights] = VLLMEngine(model, VLLMOptions(tensor_parallel_size=n_devices))
    return engines[weights].with_model(model)
