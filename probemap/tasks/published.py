"""Load published data sets by name, from the Hugging Face hub or from a file with the same rows.

Each entry of `PUBLISHED` specifies the prompt, the kind of answer, the split, the licence, and the function in
`adapters` that converts a row.  If a question occurs more than once, only its first occurrence is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from probemap.reading.folding import fold
from probemap.records import DataError, Example, Kind, Task
from probemap.redact import redacted_message
from probemap.tasks import adapters
from probemap.tasks.metadata import parse_metadata

if TYPE_CHECKING:
    from probemap.tasks.adapters import Row


@dataclass(frozen=True)
class Hub:
    """Location of a data set on the Hugging Face hub."""

    repository: str
    config: str | None
    split: str


@dataclass(frozen=True)
class Published:
    """A published data set."""

    description: str
    """One-line description printed by ``probemap list tasks``."""
    adapt: Callable[[Row], Example | None]
    """Function that converts a row to an example, or returns None if the row cannot be used."""
    task: Task
    """The task without its examples."""
    hub: Hub | None
    """Location on the hub, or None if the data set is only available as a file."""
    fields: tuple[str, ...] = ()
    """Fields of a row that are kept as metadata, e.g. for ``probemap map --group-by``."""


_LETTERS = "{question}\n{letters}\nAnswer with the letter and the text of the right choice."
_CONTEXT = "{context}\n\n{question}"
_REVIEW = (
    "Is the sentiment of this review positive or negative? Give the label first, then the reason in one sentence.\n\n"
    "Review: {question}"
)
_REVIEW_SHOT = (
    _REVIEW.replace("{question}", "The jokes fall flat, and two hours feel like four."),
    "negative\nThe reviewer finds the film neither funny nor short.",
)
_IN_LLMSKNOW = "in the form of github.com/technion-cs-nlp/LLMsKnow"


def _entry(
    name: str,
    kind: Kind,
    description: str,
    adapt: Callable[[Row], Example | None],
    *,
    hub: Hub | None,
    source: str,
    fields: tuple[str, ...] = (),
    **options: Any,
) -> Published:
    return Published(description, adapt, Task(name, (), kind, source=source, **options), hub, fields)


PUBLISHED: dict[str, Published] = {
    entry.task.name: entry
    for entry in (
        _entry(
            "triviaqa",
            "open",
            "trivia, many accepted spellings",
            adapters.trivia,
            hub=Hub("mandarjoshi/trivia_qa", "rc.nocontext", "validation"),
            source="TriviaQA (Joshi et al. 2017), Apache-2.0",
        ),
        _entry(
            "nq-open",
            "open",
            "questions that people asked a search engine",
            adapters.nq,
            hub=Hub("google-research-datasets/nq_open", None, "validation"),
            source="NQ-open (Kwiatkowski et al. 2019; Lee et al. 2019), CC BY-SA 3.0",
        ),
        _entry(
            "popqa",
            "open",
            "facts about popular and unpopular entities",
            adapters.popqa,
            hub=Hub("akariasai/PopQA", None, "test"),
            source="PopQA (Mallen et al. 2023), MIT",
            fields=("prop", "s_pop", "o_pop"),
        ),
        _entry(
            "hotpotqa",
            "open",
            "questions that combine two facts, without context",
            adapters.hotpot,
            hub=Hub("hotpotqa/hotpot_qa", "distractor", "validation"),
            source="HotpotQA (Yang et al. 2018), CC BY-SA 4.0",
            fields=("type", "level"),
        ),
        _entry(
            "hotpotqa-context",
            "open",
            "the same, with ten pages as context",
            adapters.hotpot_with_context,
            hub=Hub("hotpotqa/hotpot_qa", "distractor", "validation"),
            source="HotpotQA (Yang et al. 2018), CC BY-SA 4.0",
            fields=("type", "level"),
            prompt=_CONTEXT,
        ),
        _entry(
            "squad",
            "open",
            "questions about a paragraph",
            adapters.squad,
            hub=Hub("rajpurkar/squad", None, "validation"),
            source="SQuAD 1.1 (Rajpurkar et al. 2016), CC BY-SA 4.0",
            fields=("title",),
            prompt=_CONTEXT,
        ),
        _entry(
            "gsm8k",
            "numbers",
            "grade-school word problems",
            adapters.gsm8k,
            hub=Hub("openai/gsm8k", "main", "test"),
            source="GSM8K (Cobbe et al. 2021), MIT",
            max_new_tokens=320,
        ),
        _entry(
            "math",
            "numbers",
            "competition problems whose answer is a number",
            adapters.math,
            hub=Hub("HuggingFaceH4/MATH-500", None, "test"),
            source="MATH (Hendrycks et al. 2021), the 500 of Lightman et al. 2023, MIT",
            fields=("subject", "level"),
            max_new_tokens=512,
        ),
        _entry(
            "answerable-math",
            "numbers",
            "short word problems",
            adapters.answerable_math,
            hub=None,
            source=f"UMWP (Sun et al. 2024), {_IN_LLMSKNOW}, MIT",
            fields=("source",),
            max_new_tokens=200,
        ),
        _entry(
            "truthfulqa",
            "choices",
            "common misconceptions, one true choice",
            adapters.truthful,
            hub=Hub("truthfulqa/truthful_qa", "multiple_choice", "validation"),
            source="TruthfulQA (Lin et al. 2022), Apache-2.0",
            prompt=_LETTERS,
        ),
        _entry(
            "imdb",
            "names",
            "film reviews: label first, then the reason",
            adapters.sentiment,
            hub=Hub("stanfordnlp/imdb", None, "test"),
            source="IMDB (Maas et al. 2011), for research",
            prompt=_REVIEW,
            shots=(_REVIEW_SHOT,),
            max_new_tokens=48,
        ),
        _entry(
            "sst2",
            "names",
            "sentences of film reviews: label first, then the reason",
            adapters.sentiment,
            hub=Hub("stanfordnlp/sst2", None, "validation"),
            source="SST-2 (Socher et al. 2013), for research",
            prompt=_REVIEW,
            shots=(_REVIEW_SHOT,),
            max_new_tokens=48,
        ),
        _entry(
            "mnli",
            "names",
            "does one sentence follow from another?",
            adapters.mnli,
            hub=Hub("nyu-mll/multi_nli", None, "validation_matched"),
            source="MultiNLI (Williams et al. 2018), OANC and others",
            fields=("genre",),
            possible=(
                ("entailment", "entails", "entailed"),
                ("neutral", "neutrality"),
                ("contradiction", "contradicts", "contradictory"),
            ),
        ),
        _entry(
            "winogrande",
            "names",
            "which of two names does the blank refer to?",
            adapters.winogrande,
            hub=Hub("allenai/winogrande", "winogrande_xl", "validation"),
            source="WinoGrande (Sakaguchi et al. 2020), CC BY",
        ),
        _entry(
            "winobias",
            "names",
            "which of two people does the pronoun refer to?",
            adapters.winobias,
            hub=None,
            source=f"WinoBias (Zhao et al. 2018), {_IN_LLMSKNOW}, MIT",
            fields=("type", "stereotype", "pronoun"),
        ),
        _entry(
            "boolq",
            "names",
            "yes or no, about a paragraph",
            adapters.boolq,
            hub=Hub("google/boolq", None, "validation"),
            source="BoolQ (Clark et al. 2019), CC BY-SA 3.0",
            prompt=_CONTEXT,
        ),
        _entry(
            "arc",
            "choices",
            "school science, challenge set",
            adapters.arc,
            hub=Hub("allenai/ai2_arc", "ARC-Challenge", "test"),
            source="ARC (Clark et al. 2018), CC BY-SA 4.0",
            prompt=_LETTERS,
        ),
        _entry(
            "mmlu",
            "choices",
            "57 subjects, four choices",
            adapters.mmlu,
            hub=Hub("cais/mmlu", "all", "test"),
            source="MMLU (Hendrycks et al. 2021), MIT",
            fields=("subject",),
            prompt=_LETTERS,
        ),
        _entry(
            "sciq",
            "choices",
            "science exams, four choices",
            adapters.sciq,
            hub=Hub("allenai/sciq", None, "test"),
            source="SciQ (Welbl et al. 2017), CC BY-NC 3.0",
            prompt=_LETTERS,
        ),
        _entry(
            "movies",
            "open",
            "who played a role in a film?",
            adapters.movies,
            hub=None,
            source=f"Movies (Orgad et al. 2024), {_IN_LLMSKNOW}, MIT",
        ),
    )
}
"""The published data sets, keyed by name."""


def adapt_rows(name: str, rows: Iterable[Row]) -> Task:
    """Convert the rows of a published data set to a task, preserving their order.

    Parameters
    ----------
    name : str
        A key of `PUBLISHED`.
    rows : iterable of mappings
        The rows with their original fields.

    Returns
    -------
    Task

    Raises
    ------
    DataError
        If a row is not a valid row of the data set, or if no row can be used.
    """
    published = PUBLISHED[name]
    hint = f"pass the rows in their published form ({published.task.source})"
    examples: list[Example] = []
    further: list[dict[str, Any]] = []
    questions: set[str] = set()
    for number, row in enumerate(rows, start=1):
        try:
            example = published.adapt(row)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            fields = ", ".join(map(str, row)) if isinstance(row, Mapping) else type(row).__name__
            problem = (
                f"row {number} is not a valid row of {name}: {type(error).__name__} {str(error)[:80]} "
                f"(fields: {fields})"
            )
            raise DataError(problem, hint) from None
        if example is None:
            continue
        question = " ".join(fold(example.context + " " + example.question)[0].split())
        if question not in questions:
            questions.add(question)
            examples.append(replace(example, id=example.id or f"{name}-{number}"))
            further.append({field: row.get(field) for field in published.fields})
    if not examples:
        raise DataError(f"no row of {name} can be used", hint)
    metadata = parse_metadata(further, numbers_as_text=True)  # a file of rows may be a CSV file
    return replace(
        published.task, examples=tuple([replace(e, metadata=m) for e, m in zip(examples, metadata, strict=True)])
    )


def load_from_hub(name: str) -> Task:
    """Download a published data set with the ``datasets`` package.

    Parameters
    ----------
    name : str
        A key of `PUBLISHED`.

    Returns
    -------
    Task

    Raises
    ------
    DataError
        If the data set is only available as a file, if ``datasets`` is not installed, or if the download fails.
    """
    hub = PUBLISHED[name].hub
    if hub is None:
        raise DataError(
            f"{name} is only available as a file, not on the hub",
            f"download the file ({PUBLISHED[name].task.source}), then pass {name}:FILE",
        )
    try:
        import datasets
    except ImportError:
        raise DataError(
            f"loading {name} from the hub requires the datasets package, which is not installed",
            f"pip install 'probemap[hub]', or pass {name}:FILE",
        ) from None
    try:
        rows = datasets.load_dataset(hub.repository, hub.config, split=hub.split)
    except Exception as error:  # datasets raises the exceptions of its backends
        raise DataError(
            f"{hub.repository} could not be loaded: {redacted_message(error)}",
            f"check the network connection, or pass the same rows as a file: {name}:FILE",
        ) from None
    return adapt_rows(name, rows)
