"""The engines by name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import torch

from probemap.models.loading import Loader
from probemap.models.transformers_engine import TransformersEngine
from probemap.records import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from probemap.models.engine import Engine
    from probemap.models.loading import Models

EngineName = Literal["transformers", "vllm"]
"""Library that runs a model."""


def load_engine(
    model: str | Path,
    engine: EngineName = "transformers",
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    quantize: Literal["4bit", "8bit"] | None = None,
    template: str | None = None,
) -> Engine:
    """Load a model with transformers or vLLM, for functions that take a model or an engine.

    Parameters
    ----------
    model : str or Path
        See `load_model`.
    engine : {"transformers", "vllm"}, default "transformers"
        Library that runs the model.  vLLM starts processes of its own, which import the main module of the program, so
        the program must call this function below ``if __name__ == "__main__":``.
    revision : str, optional
        See `load_model`.
    device : str, default "auto"
        See `load_model`.  With vLLM, only ``auto`` and ``spread`` are possible.  ``spread`` divides each layer among
        all GPUs.
    dtype : {"auto", "float32", "bfloat16", "float16"}, default "auto"
        See `load_model`.
    quantize : {"4bit", "8bit"}, optional
        See `load_model`.  This option does not apply to vLLM.
    template : str, optional
        See `load_model`.

    Returns
    -------
    Engine
        An engine, whose method `close` ends its processes.

    Raises
    ------
    ModelError
        If the model cannot be loaded, if vLLM is not installed or has an untested version, or if an option does not
        apply to vLLM.

    Examples
    --------
    >>> import probemap
    >>> engine = probemap.load_engine("smollm2-135m")
    >>> [answer] = probemap.ask(engine, probemap.load_task("cities", n=1))
    >>> probemap.capture(engine, [answer], positions="last_q", layers="0,-1").values.shape
    (1, 2, 1, 576)
    """
    loader = Loader(
        name=str(model), revision=revision, device=device, dtype=dtype, quantize=quantize, template=template
    )
    return open_engine(engine, loader, {}, {})


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
