"""A loaded language model with its revision, tokenizer and stop tokens."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
import transformers

from probemap.models.gguf import convert_gguf, sha256_of_files
from probemap.models.model_files import check_ignored_files, damaged_file, model_files
from probemap.models.model_names import ALIASES, ModelSource, split_untrained
from probemap.models.reasoning import Marks, marks_of
from probemap.models.templates import ChatTemplate, select_template
from probemap.records import ModelError
from probemap.redact import redacted_message

_LOADING = threading.Lock()
"""Lock that is held while weights are loaded.

While it loads a model, transformers replaces `PreTrainedModel.tie_weights` for the whole process.  If two threads load
models at the same time, the tied weights of one of them can remain without data.
"""


@dataclass(frozen=True)
class Model:
    """A loaded model with its tokenizer.

    Examples
    --------
    Models are usually loaded with `load_model`.  A model that is already in memory can be wrapped with a user-defined
    label and revision:

    >>> from types import SimpleNamespace
    >>> from probemap import Model
    >>> network = SimpleNamespace(device="cpu", dtype="torch.float32", config=SimpleNamespace())
    >>> Model("my-model", "2026-11-26", network, tokenizer=None).dtype
    'float32'
    """

    label: str
    """Short name of the model, used in figures; see `model_names.ModelSource.label`."""
    revision: str
    """Identifier of the weights, usually a commit or a SHA-256; see `model_names.ModelSource.revision`."""
    network: Any
    """A ``transformers.PreTrainedModel`` in eval mode."""
    tokenizer: Any
    """A ``transformers.PreTrainedTokenizerBase``."""
    template: str | None = None
    """Name of the chat template, for tokenizers with several of them.  By default, the one named ``default``."""
    date: str | None = None
    """Date and time, in ISO format, for chat templates that contain the current time.  By default, prompts contain the
    time at which they are made."""
    source: str = ""
    """Directory or hub id from which `load_model` loaded the model."""

    @property
    def device(self) -> torch.device:
        return torch.device(self.network.device)

    @property
    def dtype(self) -> str:
        return str(self.network.dtype).removeprefix("torch.")

    @property
    def weights(self) -> str:
        """Identifier of the weights: the revision, the dtype, and the name of the quantisation method, if any."""
        quantization = getattr(self.network.config, "quantization_config", None)
        return f"{self.revision} {self.dtype} {getattr(quantization, 'quant_method', '')}".strip()

    @property
    def quantize(self) -> str:
        """``4bit`` or ``8bit`` if bitsandbytes quantised the weights at load time, otherwise an empty string."""
        quantization = getattr(self.network.config, "quantization_config", None)
        return next((bits for bits in ("4bit", "8bit") if getattr(quantization, f"load_in_{bits}", False)), "")

    @property
    def template_sha256(self) -> str:
        """SHA-256 of the chat template, or an empty string if there is no chat template or none is chosen."""
        try:
            text = self.chat_template.text
        except ModelError:
            return ""
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def has_chat_template(self) -> bool:
        return bool(self.tokenizer.chat_template)

    @cached_property
    def chat_template(self) -> ChatTemplate:
        """The chosen chat template.

        Raises
        ------
        ModelError
            If there is no chat template, no template of the given name, or more than one template and none is chosen.
        """
        text = select_template(self.tokenizer.chat_template, self.template, self.label)
        return ChatTemplate(self.label, self.tokenizer, text, self.date)

    def with_template(self, template: str | None, date: str | None) -> Model:
        """Return the same model with another chat template and date; see the attributes of these names.

        Raises
        ------
        ModelError
            If the tokenizer has no chat template of this name.
        """
        model = replace(self, template=template, date=date)
        if template is not None:
            _ = model.chat_template
        return model

    def with_template_sha256(self, sha256: str) -> Model:
        """Return the model with the named chat template that has this SHA-256, or the model itself if none has it."""
        templates = self.tokenizer.chat_template
        models = [replace(self, template=name) for name in templates] if isinstance(templates, dict) else []
        return next((model for model in models if model.template_sha256 == sha256), self)

    @cached_property
    def reasoning_marks(self) -> tuple[Marks, ...]:
        """The marks of reasoning that the tokenizer and the chosen chat template name."""
        template = self.chat_template.text if self.template_sha256 else ""
        return marks_of(set(self.tokenizer.get_added_vocab()), template)

    @property
    def window(self) -> int | None:
        """Length of the context window in tokens, or None if the configuration does not specify it."""
        config = self.network.config.get_text_config()
        window = getattr(config, "max_position_embeddings", None)
        return int(window) if window else None

    @property
    def n_layers(self) -> int:
        return int(self.network.config.get_text_config().num_hidden_layers)

    @property
    def n_embeddings(self) -> int:
        """Number of tokens in the model's embedding, which may differ from the number of tokens of the tokenizer."""
        return int(self.network.get_input_embeddings().weight.shape[0])

    @cached_property
    def end_ids(self) -> frozenset[int]:
        """Ids of the tokens that end a turn or a text, according to the tokenizer and the generation configuration.

        If these name no token, it is the first special token that the chat template writes after an answer.
        """
        token_ids: set[int | None] = set()
        for eos in (self.tokenizer.eos_token_id, self.network.generation_config.eos_token_id):
            token_ids |= set(eos) if isinstance(eos, list | tuple) else {eos}
        end_ids = frozenset(token_id for token_id in token_ids if token_id is not None)
        if not end_ids and self.template_sha256:
            special = set(self.tokenizer.get_added_vocab().values())
            written = self.tokenizer(self.chat_template.after_answer, add_special_tokens=False)["input_ids"]
            end_ids = frozenset([token_id for token_id in written if token_id in special][:1])
        return frozenset(token_id for token_id in end_ids if token_id < self.n_embeddings)

    @property
    def pad_id(self) -> int:
        """Id of the token with which sequences are padded.  Padding is masked, so any token can be used."""
        pad = self.tokenizer.pad_token_id
        return pad if pad is not None and pad < self.n_embeddings else 0

    @cached_property
    def newline_ids(self) -> frozenset[int]:
        """Ids of all tokens in the vocabulary whose text contains a line break, except `end_ids`."""
        texts = self.tokenizer.batch_decode([[token_id] for token_id in range(len(self.tokenizer))])
        return frozenset(token_id for token_id, text in enumerate(texts) if "\n" in text) - self.end_ids

    def right_padded(self, token_ids: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return right-padded token ids and their attention mask as tensors on the model's device.

        Padding on the right does not change the position ids of the tokens.

        Returns
        -------
        input_ids, attention_mask : Tensor of shape (len(token_ids), length of the longest), int64
        """
        width = max(map(len, token_ids))
        input_ids = torch.tensor([[*row, *[self.pad_id] * (width - len(row))] for row in token_ids])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in token_ids])
        return input_ids.to(self.device), mask.to(self.device)


def out_of_memory_error(model: Model, id_: str, n_tokens: int) -> ModelError:
    """Return the error to raise for a single text that does not fit in memory even in a batch of its own."""
    return ModelError(
        f"{id_!r} ({n_tokens} tokens) does not fit in the memory of {model.device} together with {model.label}, even "
        "in a batch of its own",
        "use --dtype bfloat16, --device cpu or a smaller model, or omit this question",
    )


def non_finite_error(model: Model) -> ModelError:
    """Return the error to raise for logits that are infinite or NaN."""
    return ModelError(
        f"the logits of {model.label} are infinite or NaN in {model.dtype}", "load the model with --dtype float32"
    )


def load_model(
    name: str | Path,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    quantize: Literal["4bit", "8bit"] | None = None,
    max_memory: str | None = None,
    template: str | None = None,
) -> Model:
    """Load a model from an alias, a GGUF file, a local directory or the Hugging Face Hub.

    A GGUF file is dequantised to float32 on first use, and the result is cached; see `gguf.convert_gguf`.  Code in a
    model repository is never executed, and pickled weights are never read.

    An untrained model has the configuration and the tokenizer of the given model, but weights that are drawn at random,
    by the initialisation of its architecture.  The weights in a repository or directory are neither downloaded nor
    read.  The same seed gives the same weights on every device, up to rounding to the dtype, if the versions of torch
    and transformers are the same.

    Parameters
    ----------
    name : str or Path
        A key of `model_names.ALIASES`, the path of a ``.gguf`` file, a directory written by ``save_pretrained``, or an
        id on the Hugging Face Hub.  ``untrained:NAME`` stands for an untrained model, with the seed 0, and
        ``untrained-SEED:NAME`` for one with another seed.
    revision : str, optional
        Branch, tag or commit on the hub.  By default, the main branch is used.
    device : str, default "auto"
        A PyTorch device, or one of the following:

        - ``auto``: a GPU if CUDA is available, and the CPU otherwise.  Under torchrun, each process uses its own GPU.
        - ``spread``: accelerate distributes the blocks over all GPUs and places the remaining ones in CPU memory.
        - ``meta``: no weights are loaded, for models that another library runs.

    dtype : {"auto", "float32", "bfloat16", "float16"}, default "auto"
        ``auto`` means float32 on the CPU, and the dtype of the saved weights on other devices.
    quantize : {"4bit", "8bit"}, optional
        Precision to which bitsandbytes quantises the weights at load time.  Answers and states are then those of the
        quantised model.  By default, the weights are not quantised.
    max_memory : str, optional
        Memory limit per device, e.g. ``20GiB``; requires ``device="spread"``.
    template : str, optional
        Name of the chat template, for tokenizers with several of them.

    Returns
    -------
    Model

    Raises
    ------
    ModelError
        If the model does not exist, cannot be loaded or is not a causal language model, or if an untrained model is to
        be quantised, spread, or run by another library.

    Examples
    --------
    >>> import probemap
    >>> model = probemap.load_model("smollm2-135m")
    >>> model.label, model.n_layers
    ('SmolLM2-135M-Instruct.Q4_1', 30)
    >>> probemap.load_model("./nothing")
    Traceback (most recent call last):
        ...
    probemap.records.ModelError: the model directory ./nothing does not exist...
    """
    name = str(name)
    with _LOADING:
        source = resolve_name(name)
    source.check_options(device, quantize)
    spread = device == "spread"
    if device in ("auto", "spread"):
        device = _local_gpu() if torch.cuda.is_available() else "cpu"
    if max_memory is not None and not spread:
        raise ModelError(
            f"a memory limit per device ({max_memory}) requires the device 'spread'", "add --device spread"
        )
    if dtype not in ("auto", "float32", "bfloat16", "float16"):
        raise ModelError(f"dtype must be auto, float32, bfloat16 or float16, got {dtype!r}")
    on_cpu = device == "cpu" or (device == "meta" and not torch.cuda.is_available())
    torch_dtype: Any = getattr(torch, "float32" if dtype == "auto" and on_cpu else dtype, "auto")
    options: dict[str, Any] = {"revision": revision} if revision else {}
    placement: dict[str, Any] = {}
    if spread:
        placement = {"device_map": "auto", "max_memory": max_memory and _limit_per_device(max_memory)}
    if quantize:
        config = transformers.BitsAndBytesConfig(load_in_4bit=quantize == "4bit", load_in_8bit=quantize == "8bit")
        placement = {"device_map": {"": device}, **placement, "quantization_config": config}
    check_ignored_files(Path(source.path))
    try:
        with _LOADING:
            tokenizer = transformers.AutoTokenizer.from_pretrained(source.path, trust_remote_code=False, **options)
            if device == "meta" or source.seed is not None:
                network = _from_configuration(source, torch_dtype, options)
            else:
                network = transformers.AutoModelForCausalLM.from_pretrained(
                    source.path,
                    dtype=torch_dtype,
                    trust_remote_code=False,
                    use_safetensors=True,
                    **options,
                    **placement,
                )
        network.eval()
        if not placement:
            network.to(device)
    except Exception as error:  # damaged files lead to exceptions of many libraries
        if damaged := damaged_file(Path(source.path)):
            raise ModelError(*damaged) from None
        raise ModelError(
            f"model {name!r} could not be loaded: {redacted_message(error)}",
            "quantisation requires bitsandbytes: pip install 'probemap[quantized]'"
            if quantize
            else "pass a hub id, a directory with config.json and safetensors, a .gguf file, or " + ", ".join(ALIASES),
        ) from None
    # The generation configuration of a repository may enable penalties or sampling, which would change the answers.
    network.generation_config = transformers.GenerationConfig(eos_token_id=network.generation_config.eos_token_id)
    commit = getattr(network.config, "_commit_hash", None)
    revision = source.revision(source.gguf_sha256 or commit or _directory_sha256(source))
    model = Model(source.label, revision, network, tokenizer, source=source.path)
    return model.with_template(template, None)


def _from_configuration(source: ModelSource, dtype: Any, options: dict[str, Any]) -> Any:
    """Return a network that is made from its configuration, without reading weights.

    Its weights are random if the source has a seed.  Otherwise, they have shapes and a dtype, but no values.
    """
    config = transformers.AutoConfig.from_pretrained(source.path, trust_remote_code=False, **options)
    with torch.random.fork_rng(devices=()), torch.device("meta" if source.seed is None else "cpu"):
        torch.default_generator.manual_seed(source.seed or 0)
        network = transformers.AutoModelForCausalLM.from_config(
            config, dtype=(config.dtype or torch.float32) if dtype == "auto" else dtype, trust_remote_code=False
        )
    with suppress(OSError):  # without this file, the configuration of the model names the end tokens
        network.generation_config = transformers.GenerationConfig.from_pretrained(source.path, **options)
    return network


def _local_gpu() -> str:
    """Return the GPU for this process, based on the local rank assigned by torchrun."""
    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"


def _limit_per_device(limit: str) -> dict[int | str, str]:
    """Return memory limits for accelerate: `limit` for every GPU, or for the CPU on a machine without GPUs."""
    gpus: dict[int | str, str] = dict.fromkeys(range(torch.cuda.device_count()), limit)
    return gpus or {"cpu": limit}


def resolve_name(name: str) -> ModelSource:
    """Return the files that a model name stands for; see `load_model` for the names and the errors."""
    seed, name = split_untrained(name)
    if seed is not None:
        return replace(resolve_name(name), seed=seed)
    if name in ALIASES:
        alias = ALIASES[name]
        spec = find_spec(alias.package)  # locates the package without importing it
        for directory in (spec.submodule_search_locations or ()) if spec else ():
            file = Path(directory, alias.file)
            if file.is_file():
                return ModelSource(path=str(convert_gguf(file, alias.sha256)), name=file.stem, gguf_sha256=alias.sha256)
        return ModelSource(path=alias.hub_id, name=alias.hub_id.split("/")[-1])
    path = Path(name)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(f"the GGUF file {path} does not exist", "check the path of the file")
        sha256 = sha256_of_files([path])
        return ModelSource(path=str(convert_gguf(path, sha256)), name=path.stem, gguf_sha256=sha256)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(
                f"the directory {path} contains no config.json", "pass a directory saved by save_pretrained"
            )
        return ModelSource(path=str(path), name=path.resolve().name)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"the model directory {name} does not exist", "check the path of the directory")
    return ModelSource(path=name, name=name.split("/")[-1])


def _directory_sha256(source: ModelSource) -> str:
    """Return the SHA-256 of the files that determine the outputs: configuration, tokenizer, and weights unless they are
    random."""
    directory = Path(source.path)
    if not directory.is_dir():
        return "unknown"
    files = model_files(directory)
    return sha256_of_files(file for file in files if source.seed is None or file.suffix != ".safetensors")
