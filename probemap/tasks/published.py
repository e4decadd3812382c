"""Published data sets by name: an adapter of a few lines each, for rows from the hub or from the same file on disk.

A data set is a line in `PUBLISHED`: how it is asked and judged, which split is taken, its licence, and the function of
`adapters` that reads its rows.  A question that stands twice is taken once.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from probemap.mentions import fold
from probemap.records import DataError, Example, Kind, Task
from probemap.redact import redacted_message
from probemap.tasks import adapters
from probemap.tasks.adapters import Row


@dataclass(frozen=True)
class Hub:
    """Where the rows lie on the hub."""

    repository: str
    config: str | None
    split: str


@dataclass(frozen=True)
class Published:
    """One data set."""

    meaning: str
    adapt: Callable[[Row], Example | None]
    task: Task
    """How it is asked, without examples."""
    hub: Hub | None
    """None: published as a file only; give that file."""


# The data sets.

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


def _line(
    name: str,
    kind: Kind,
    meaning: str,
    adapt: Callable[[Row], Example | None],
    hub: Hub | None,
    source: str,
    **more: Any,
) -> Published:
    return Published(meaning, adapt, Task(name, (), kind, source=source, **more), hub)


PUBLISHED: dict[str, Published] = {
    line.task.name: line
    for line in (
        _line(
            "triviaqa",
            "open",
            "trivia, many accepted spellings",
            adapters.trivia,
            Hub("mandarjoshi/trivia_qa", "rc.nocontext", "validation"),
            "TriviaQA (Joshi et al. 2017), Apache-2.0",
        ),
        _line(
            "nq-open",
            "open",
            "what people asked a search engine",
            adapters.nq,
            Hub("google-research-datasets/nq_open", None, "validation"),
            "NQ-open (Kwiatkowski et al. 2019; Lee et al. 2019), CC BY-SA 3.0",
        ),
        _line(
            "popqa",
            "open",
            "facts about entities, popular and not",
            adapters.popqa,
            Hub("akariasai/PopQA", None, "test"),
            "PopQA (Mallen et al. 2023), MIT",
        ),
        _line(
            "hotpotqa",
            "open",
            "questions over two facts, without the pages",
            adapters.hotpot,
            Hub("hotpotqa/hotpot_qa", "distractor", "validation"),
            "HotpotQA (Yang et al. 2018), CC BY-SA 4.0",
        ),
        _line(
            "hotpotqa-context",
            "open",
            "the same, with ten pages to read",
            adapters.hotpot_with_context,
            Hub("hotpotqa/hotpot_qa", "distractor", "validation"),
            "HotpotQA (Yang et al. 2018), CC BY-SA 4.0",
            prompt=_CONTEXT,
        ),
        _line(
            "squad",
            "open",
            "questions about a paragraph",
            adapters.squad,
            Hub("rajpurkar/squad", None, "validation"),
            "SQuAD 1.1 (Rajpurkar et al. 2016), CC BY-SA 4.0",
            prompt=_CONTEXT,
        ),
        _line(
            "gsm8k",
            "numbers",
            "grade-school word problems",
            adapters.gsm8k,
            Hub("openai/gsm8k", "main", "test"),
            "GSM8K (Cobbe et al. 2021), MIT",
            max_new_tokens=320,
        ),
        _line(
            "math",
            "numbers",
            "competition problems, those with a number as answer",
            adapters.math,
            Hub("HuggingFaceH4/MATH-500", None, "test"),
            "MATH (Hendrycks et al. 2021), the 500 of Lightman et al. 2023, MIT",
            max_new_tokens=512,
        ),
        _line(
            "answerable-math",
            "numbers",
            "short word problems",
            adapters.answerable_math,
            None,
            f"UMWP (Sun et al. 2024), {_IN_LLMSKNOW}, MIT",
            max_new_tokens=200,
        ),
        _line(
            "truthfulqa",
            "choices",
            "what people wrongly believe, one true choice",
            adapters.truthful,
            Hub("truthfulqa/truthful_qa", "multiple_choice", "validation"),
            "TruthfulQA (Lin et al. 2022), Apache-2.0",
            prompt=_LETTERS,
        ),
        _line(
            "imdb",
            "names",
            "film reviews: label first, then the reason",
            adapters.sentiment,
            Hub("stanfordnlp/imdb", None, "test"),
            "IMDB (Maas et al. 2011), for research",
            prompt=_REVIEW,
            shots=(_REVIEW_SHOT,),
            max_new_tokens=48,
        ),
        _line(
            "sst2",
            "names",
            "sentences of film reviews: label first, then the reason",
            adapters.sentiment,
            Hub("stanfordnlp/sst2", None, "validation"),
            "SST-2 (Socher et al. 2013), for research",
            prompt=_REVIEW,
            shots=(_REVIEW_SHOT,),
            max_new_tokens=48,
        ),
        _line(
            "mnli",
            "names",
            "does one sentence follow from another?",
            adapters.mnli,
            Hub("nyu-mll/multi_nli", None, "validation_matched"),
            "MultiNLI (Williams et al. 2018), OANC and others",
            possible=(
                ("entailment", "entails", "entailed"),
                ("neutral", "neutrality"),
                ("contradiction", "contradicts", "contradictory"),
            ),
        ),
        _line(
            "winogrande",
            "names",
            "which of two does the blank mean?",
            adapters.winogrande,
            Hub("allenai/winogrande", "winogrande_xl", "validation"),
            "WinoGrande (Sakaguchi et al. 2020), CC BY",
        ),
        _line(
            "winobias",
            "names",
            "which of two people does the pronoun mean?",
            adapters.winobias,
            None,
            f"WinoBias (Zhao et al. 2018), {_IN_LLMSKNOW}, MIT",
        ),
        _line(
            "boolq",
            "names",
            "yes or no, about a paragraph",
            adapters.boolq,
            Hub("google/boolq", None, "validation"),
            "BoolQ (Clark et al. 2019), CC BY-SA 3.0",
            prompt=_CONTEXT,
        ),
        _line(
            "arc",
            "choices",
            "school science, the hard part",
            adapters.arc,
            Hub("allenai/ai2_arc", "ARC-Challenge", "test"),
            "ARC (Clark et al. 2018), CC BY-SA 4.0",
            prompt=_LETTERS,
        ),
        _line(
            "mmlu",
            "choices",
            "57 subjects, four choices",
            adapters.mmlu,
            Hub("cais/mmlu", "all", "test"),
            "MMLU (Hendrycks et al. 2021), MIT",
            prompt=_LETTERS,
        ),
        _line(
            "sciq",
            "choices",
            "science exams, four choices",
            adapters.sciq,
            Hub("allenai/sciq", None, "test"),
            "SciQ (Welbl et al. 2017), CC BY-NC 3.0",
            prompt=_LETTERS,
        ),
        _line(
            "movies",
            "open",
            "who acted as a role in a film?",
            adapters.movies,
            None,
            f"Movies (Orgad et al. 2024), {_IN_LLMSKNOW}, MIT",
        ),
    )
}
"""Name -> published data set."""


def adapted(name: str, rows: Iterable[Row]) -> Task:
    """The task of data set `name` with these rows, in their order.

    Raises
    ------
    DataError: rows of another data set, or none that can be asked.
    """
    published = PUBLISHED[name]
    examples: list[Example] = []
    seen: set[str] = set()
    for number, row in enumerate(rows, start=1):
        try:
            example = published.adapt(row)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise DataError(
                f"row {number} is none of {name}: {type(error).__name__} {str(error)[:80]} "
                f"(its fields: {', '.join(map(str, row)) if isinstance(row, Mapping) else type(row).__name__})",
                f"give the rows as they are published ({published.task.source})",
            ) from None
        if example is None:
            continue
        asked = " ".join(fold(example.context + " " + example.question)[0].split())
        if asked not in seen:
            seen.add(asked)
            examples.append(replace(example, id=example.id or f"{name}-{number}"))
    if not examples:
        raise DataError(
            f"no row of {name} can be asked", f"give the rows as they are published ({published.task.source})"
        )
    return replace(published.task, examples=tuple(examples))


def from_hub(name: str) -> Task:
    """The data set, downloaded through ``datasets``.

    Raises
    ------
    DataError: it is published as a file only, ``datasets`` is missing, or the hub refuses.
    """
    hub = PUBLISHED[name].hub
    if hub is None:
        raise DataError(
            f"{name} is published as a file, not on the hub",
            f"get it ({PUBLISHED[name].task.source}), then {name}:FILE",
        )
    try:
        import datasets
    except ImportError:
        raise DataError(
            f"{name} comes from the hub, which needs the package datasets",
            f"pip install 'probemap[hub]', or {name}:FILE",
        ) from None
    try:
        rows = datasets.load_dataset(hub.repository, hub.config, split=hub.split)
    except Exception as error:  # datasets raises what its backends raise
        raise DataError(
            f"{hub.repository} could not be loaded: {redacted_message(error)}",
            f"check the network, or give the same rows as a file: {name}:FILE",
        ) from None
    return adapted(name, rows)
