"""Record what a model read and wrote, independently of the log that a tool writes."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Call:
    """One answer of the model, recorded at transformers' ``generate``."""

    prompt: str
    """The prompt's token ids as text, with special tokens and without padding."""
    text: str
    """The new token ids as text, without special tokens and before any stop string is cut off."""
    n_new: int
    """Number of new tokens, with the end token."""
    has_end_token: bool
    """Whether the model ended the answer itself."""

    def text_before(self, stops: Iterable[str]) -> str:
        """Return the text before the first stop string."""
        positions = [self.text.index(stop) for stop in stops if stop in self.text]
        return self.text[: min(positions)] if positions else self.text

    def stopped(self, stops: Iterable[str] = ()) -> bool:
        """Return whether the answer ended with the end token or with a stop string, and not at the token limit."""
        return self.has_end_token or any(stop in self.text for stop in stops)


@dataclass
class Recording:
    """The calls of one run, in order."""

    calls: list[Call] = field(default_factory=list)

    def of_question(self, question: str) -> list[Call]:
        """Return the calls whose prompt contains the question."""
        calls = [call for call in self.calls if question in call.prompt]
        if not calls:
            raise LookupError(f"the model was not asked {question!r}")
        return calls


@contextmanager
def recorded_calls(model_directory: Path) -> Iterator[Recording]:
    """Record every call of ``generate`` of any transformers model within the context."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(model_directory)
    recording = Recording()
    original: Callable[..., Any] = transformers.GenerationMixin.generate

    def generate(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = original(self, *args, **kwargs)
        inputs = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
        sequences = output if hasattr(output, "tolist") else output.sequences
        masks = kwargs.get("attention_mask")
        repeats = len(sequences) // len(inputs)
        for row, sequence in enumerate(sequences.tolist()):
            ids = inputs[row // repeats].tolist()
            mask = [1] * len(ids) if masks is None else masks[row // repeats].tolist()
            prompt_ids = [id_ for id_, seen in zip(ids, mask, strict=True) if seen]
            new = sequence[len(ids) :]
            if tokenizer.eos_token_id in new:
                new = new[: new.index(tokenizer.eos_token_id) + 1]
            recording.calls.append(
                Call(
                    prompt=tokenizer.decode(prompt_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False),
                    text=tokenizer.decode(new, skip_special_tokens=True, clean_up_tokenization_spaces=False),
                    n_new=len(new),
                    has_end_token=tokenizer.eos_token_id in new,
                )
            )
        return output

    transformers.GenerationMixin.generate = generate
    try:
        yield recording
    finally:
        transformers.GenerationMixin.generate = original


def read_jsonl(file: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSON Lines file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def write_jsonl(file: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one object per line."""
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
