"""Grade answers and locate exact answers with a language model, which is either loaded or behind a server.

The prompts are in `llm_prompts`.  Responses are checked by rules (see `llm_replies`): a verdict has to be clear, and
quoted words have to occur in the text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from probemap.grading.choosing import CHOICE, choice_locator, choice_task, choose_answers
from probemap.grading.llm_budget import TokenBudget, estimate_tokens
from probemap.grading.llm_prompts import RESPONSE_FORMATS, extraction_task, grading_prompts
from probemap.grading.llm_replies import parse_verdict, reply_locator
from probemap.grading.open_answers import open_candidates
from probemap.models.answering import GenerationOptions, generate_answers
from probemap.models.concurrent_calls import map_concurrently
from probemap.models.connection import Connection
from probemap.models.continuations import Continuation, score_continuations
from probemap.models.endpoint import Endpoint
from probemap.models.model import Model
from probemap.models.prompts import chat_messages, fill_template, task_prompts
from probemap.models.request_form import AcceptedForm
from probemap.models.transformers_engine import as_engine
from probemap.reading.sentences import complete_sentences
from probemap.records import Answer, DataError, Example, JudgeResponse, ModelError, Task, Verdict

if TYPE_CHECKING:
    from probemap.grading.locate import Locator
    from probemap.grading.rules import Grader
    from probemap.models.engine import Engine
    from probemap.models.request_form import Parameters

_ENDPOINT_TOKENS = 2048
"""Maximum number of tokens in a response from a server.  The limit leaves room for models that reason before they
respond.  A loaded model's response ends at the first line break."""


@dataclass(frozen=True)
class LLMJudge:
    """A language model that responds to prompts.

    Examples
    --------
    >>> from probemap import Example, LLMJudge, Task
    >>> judge = LLMJudge("always yes", lambda task: iter([[(e.id, "Yes.") for e in task.examples]]))
    >>> list(judge.respond(Task("t", (Example("a", "Is it?", ("yes",)),), "open")))
    [[('a', 'Yes.')]]
    """

    name: str
    """Name of the model, together with its revision or its server's address."""
    respond: Callable[[Task], Iterator[list[tuple[str, str]]]]
    """Function that prompts the model with the examples of a task and yields batches of (id, response) pairs, in any
    order."""
    strict: bool = False
    """Whether verdicts are requested with the strict prompt (see `llm_prompts`) instead of the short prompt for small
    models."""
    chooses: bool = False
    """Whether the model chooses exact answers among parts of the text (see `choosing`), instead of quoting them."""
    budget: TokenBudget | None = None
    """Limit on the tokens that the model uses, or None if tokens are not counted.  If the budget is exhausted, the
    remaining examples receive no response."""


def model_judge(engine: Engine, *, batch_size: int = 16, log: Callable[[str], None] = lambda text: None) -> LLMJudge:
    """Return a judge that uses the model of an engine.

    The model is prompted in the ``qa`` format and decoded greedily.  Its chat template is not used, because small
    models tend to respond in full sentences in a chat.  The model does not quote exact answers: of the parts of the
    text that could be the answer, the one with the highest log-probability is chosen.
    """

    def score(rows: Sequence[tuple[str, str, str]]) -> Sequence[float]:
        continuations = [Continuation(*row) for row in rows]
        return [float(x) for x in score_continuations(engine, continuations, batch_size=batch_size, log=log)]

    def respond(task: Task) -> Iterator[list[tuple[str, str]]]:
        if task.prompt == CHOICE.prompt:
            for start in range(0, len(task.examples), batch_size):
                examples = task.examples[start : start + batch_size]
                candidates = [[(c.start, c.stop) for c in open_candidates(e.question, e.context)] for e in examples]
                choices = choose_answers(examples, candidates, score)
                yield [(example.id, choice) for example, choice in zip(examples, choices, strict=True)]
            return
        prompts = task_prompts(engine.model, task, "qa")
        options = GenerationOptions(prompt_format="qa", max_new_tokens=task.max_new_tokens, batch_size=batch_size)
        for batch in generate_answers(engine, prompts, options, log=log):
            yield [(answer.id, answer.text) for answer in batch]

    return LLMJudge(f"{engine.model.label} {engine.model.revision[:12]}", respond, chooses=True)


def endpoint_judge(
    endpoint: Endpoint, *, max_tokens: int | None = None, log: Callable[[str], None] = lambda text: None
) -> LLMJudge:
    """Return a judge that uses a model behind a server.

    The model is prompted with its chat template at temperature 0.  It replies in JSON: with a schema if the server
    offers it, otherwise in JSON without a schema, or in plain text.

    Parameters
    ----------
    endpoint : Endpoint
    max_tokens : int, optional
        Maximum number of tokens to use for all requests together.  Default: no limit.
    log : callable, optional
        Called with a message once for each parameter that the server refuses.
    """
    form, budget = AcceptedForm(endpoint.url), TokenBudget(max_tokens)

    def respond(task: Task) -> Iterator[list[tuple[str, str]]]:
        parameters: Parameters = {"temperature": 0.0, "max_tokens": _ENDPOINT_TOKENS}
        if task.name in RESPONSE_FORMATS:
            parameters["response_format"] = RESPONSE_FORMATS[task.name]
        failures: list[ModelError] = []
        with Connection(endpoint.url, endpoint.served, form=form, log=log) as connection:

            def request(row: int) -> list[tuple[str, str]]:
                example = task.examples[row]
                if failures or (reserved := budget.reserve(estimate_tokens(task, example))) is None:
                    return []
                try:
                    reply = connection.complete(parameters, messages=list(chat_messages(task, example)))
                except ModelError as error:  # raised after the responses to the requests that were already sent
                    failures.append(error)
                    return []
                n_tokens = (reply.n_prompt or 0) + (reply.n_produced or 0)
                budget.settle(reserved, n_tokens or estimate_tokens(task, example, reply.text))
                _, has_ended, response = reply.text.rpartition("</think>")
                # A response that was cut off inside its reasoning contains no answer.
                return [(example.id, response if has_ended or reply.stopped else "")]

            yield from filter(None, map_concurrently(request, [range(len(task.examples))], endpoint.in_flight))
        if failures:
            raise failures[0]

    with Connection(endpoint.url, endpoint.served) as connection:
        endpoint = replace(endpoint, served=connection.model)
    return LLMJudge(f"{endpoint.served} at {endpoint.url}", respond, strict=True, budget=budget)


def llm_grader(judge: LLMJudge | Model | Endpoint, task: Task, answers: Sequence[Answer]) -> Grader:
    """Let a language model grade answers, and return a grader for `grade` that returns its verdicts.

    The model sees the question, the accepted answers and the answer.  A loaded model is asked to respond with yes or
    no.  A model behind a server is asked for a grade (correct, incorrect, not attempted) and for the words of the
    answer that decide it.  The verdict is undecided if a response contains no clear verdict, or if it quotes words that
    the answer does not contain.

    Parameters
    ----------
    judge : LLMJudge, Model or Endpoint
        The language model, e.g. from `load_model`.
    task : Task
    answers : sequence of Answer
        Answers to grade.  This call prompts the model with all of them, in batches.

    Returns
    -------
    callable
        Grader ``(example, text) -> Verdict`` for these answers.

    Raises
    ------
    DataError
        If an answer belongs to no example, or a prompt exceeds the context window.  The grader also raises this error
        if it is called for an answer that was not passed.
    ModelError
        If the server fails, or a prompt does not fit in memory.

    Examples
    --------
    >>> import probemap
    >>> from probemap import Answer, Example, LLMJudge, Task
    >>> task = Task("authors", (Example("a", "Who wrote Emma?", ("Jane Austen",)),), "open")
    >>> answer = Answer(
    ...     id="a", prompt="Q", text="Austen did.", token_ids=(0, 1, 2), n_prompt=1,
    ...     offsets=((0, 1), (0, 6), (6, 11)), logprobs=(-0.1, -0.2), stopped=True,
    ... )
    >>> judge = LLMJudge("always yes", lambda task: iter([[(e.id, "Yes.") for e in task.examples]]))
    >>> grader = probemap.llm_grader(judge, task, [answer])
    >>> probemap.grade(task, [answer], grader=grader)[0].reason
    'the judge says correct'
    """
    judge = _judge_of(judge)
    responses = _respond(judge, grading_task(task.examples_of(answers), answers, strict=judge.strict))
    texts = {(a.id, complete_sentences(a.final.text, a.stopped)) for a in answers if a.id in responses}

    def grade_by_llm(example: Example, text: str) -> Verdict:
        if (example.id, text) not in texts:
            raise DataError(
                f"the judge was not asked about the answer to {example.id!r}", "pass this answer to llm_grader as well"
            )
        return parse_verdict(responses[example.id], text)

    return grade_by_llm


def llm_locator(judge: LLMJudge | Model | Endpoint, task: Task, answers: Sequence[Answer]) -> Locator:
    """Let a language model extract the exact answers, and return a locator for `locate` that finds them.

    The model sees the question and the answer, but not the accepted answers.  A loaded model chooses the exact answer
    from the parts of the text that could be the answer.  A model behind a server quotes the exact answer, and the
    quotation is used only if it occurs in the text; see `parse_exact_answer`.

    Parameters
    ----------
    judge : LLMJudge, Model or Endpoint
        The language model, e.g. from `load_model`.
    task : Task
    answers : sequence of Answer
        Answers in which to locate the exact answer.  This call prompts the model with all of them, in batches.

    Returns
    -------
    callable
        Locator ``(question, text) -> (start, stop) | None`` for these answers.

    Raises
    ------
    DataError
        If an answer belongs to no example, or a prompt exceeds the context window.  The locator also raises this error
        if it is called for an answer that was not passed.
    ModelError
        If the server fails, or a prompt does not fit in memory.

    Examples
    --------
    >>> import probemap
    >>> from probemap import Answer, Example, LLMJudge, Task
    >>> task = Task("authors", (Example("a", "Who wrote Emma?", ("Jane Austen",)),), "open")
    >>> answer = Answer(
    ...     id="a", prompt="Q", text="Austen did.", token_ids=(0, 1, 2), n_prompt=1,
    ...     offsets=((0, 1), (0, 6), (6, 11)), logprobs=(-0.1, -0.2), stopped=True,
    ... )
    >>> judge = LLMJudge("extracts Austen", lambda task: iter([[(e.id, "Austen") for e in task.examples]]))
    >>> locator = probemap.llm_locator(judge, task, [answer])
    >>> probemap.locate(task, [answer], locator=locator)
    [Span(start=1, stop=2, text='Austen')]
    """
    examples, judge = task.examples_of(answers), _judge_of(judge)
    texts = [(example.question, answer.final.text) for example, answer in zip(examples, answers, strict=True)]
    responses = _respond(judge, locating_task(judge, examples, answers))
    asked = {key: responses.get(a.id, "") for key, a in zip(texts, answers, strict=True)}
    locator = response_locator(judge, asked)

    def locate_by_llm(question: str, text: str) -> tuple[int, int] | None:
        if (question, text) not in asked:
            raise DataError(
                f"the judge was not asked about an answer to {question[:60]!r}",
                "pass this answer to llm_locator as well",
            )
        return locator(question, text)

    return locate_by_llm


def _judge_of(judge: LLMJudge | Model | Endpoint) -> LLMJudge:
    if isinstance(judge, Model):
        return model_judge(as_engine(judge))
    return endpoint_judge(judge) if isinstance(judge, Endpoint) else judge


def _respond(judge: LLMJudge, task: Task) -> dict[str, str]:
    """Return the responses to the examples of a task, as a mapping from id to response."""
    return {id_: response for batch in judge.respond(task) for id_, response in batch}


def locating_task(judge: LLMJudge, examples: Sequence[Example], answers: Sequence[Answer]) -> Task:
    """Return the task in which a judge either chooses or quotes exact answers."""
    return (choice_task if judge.chooses else extraction_task)(examples, answers)


def response_locator(judge: LLMJudge, responses: Mapping[tuple[str, str], str]) -> Locator:
    """Return a locator that uses the responses of a judge to `locating_task`."""
    return (choice_locator if judge.chooses else reply_locator)(responses)


# The following functions reuse recorded responses instead of requesting them again.


def without_response(judge: LLMJudge, task: Task, recorded: Sequence[JudgeResponse]) -> Task:
    """Return the task with only those examples that have no recorded response of a judge."""
    responses = _recorded_responses(judge, task, recorded)
    return replace(task, examples=tuple(e for e in task.examples if fill_template(task.prompt, e) not in responses))


def new_responses(judge: LLMJudge, task: Task, recorded: Sequence[JudgeResponse]) -> Iterator[list[JudgeResponse]]:
    """Yield, in batches, a judge's responses to those examples of a task that have no recorded response."""
    about, missing = _about(task), without_response(judge, task, recorded)
    prompts = {e.id: fill_template(task.prompt, e) for e in missing.examples}
    if missing.examples:
        for batch in judge.respond(missing):
            yield [JudgeResponse(judge.name, about, prompts[id_], response) for id_, response in batch]


def responses_by_id(judge: LLMJudge, task: Task, recorded: Sequence[JudgeResponse]) -> dict[str, str]:
    """Return the recorded responses to the examples of a task, as a mapping from id to response.

    Raises
    ------
    KeyError
        If a response is missing.
    """
    responses = _recorded_responses(judge, task, recorded)
    return {e.id: responses[fill_template(task.prompt, e)] for e in task.examples}


def _recorded_responses(judge: LLMJudge, task: Task, recorded: Sequence[JudgeResponse]) -> dict[str, str]:
    """Return a judge's recorded responses, as a mapping from prompt to response."""
    about = _about(task)
    return {r.asked: r.said for r in recorded if (r.who, r.about) == (judge.name, about)}


def _about(task: Task) -> str:
    """Return the name of a task with a hash of its prompt and worked examples."""
    return f"{task.name} {hashlib.sha256(repr((task.prompt, task.shots)).encode()).hexdigest()[:8]}"


def grading_task(examples: Sequence[Example], answers: Sequence[Answer], *, strict: bool = False) -> Task:
    """Return a task that asks whether each answer is correct; see `grading_prompts`.

    Empty answers are omitted.  If an answer was cut off, the task contains only its complete sentences, because `grade`
    passes the same text to a grader.
    """
    texts = (complete_sentences(answer.final.text, answer.stopped) for answer in answers)
    rows = zip(examples, answers, texts, strict=True)
    return grading_prompts([(a.id, e, text) for e, a, text in rows if text and text.strip()], strict=strict)
