"""Answers of the demo's real model to a few questions of each built-in task."""

import re
from pathlib import Path

import pytest
from running import execute

from probemap.logger import Logger
from probemap.models.loading import Loader
from probemap.models.model import Model
from probemap.runs.definitions import ANSWER, JUDGE
from probemap.runs.plan import Context
from probemap.tasks.builtin import TASKS


@pytest.mark.parametrize("task", TASKS)
def test_judge_locates_exact_answers_in_real_answers(task: str, smollm: Model, tmp_path: Path) -> None:
    loader = Loader("smollm2-135m")
    messages: list[str] = []
    logger = Logger(messages.append)
    run = execute(
        ANSWER,
        tmp_path / "RUN",
        Context(logger=logger, models={loader: smollm}),
        data=task,
        model=loader.name,
        n=24,
        seed=7,
    )
    execute(JUDGE, run, Context(logger=logger))
    spans = [(answer, span) for answer, span in zip(run.answers, run.spans, strict=True) if span]
    assert len(spans) >= 10
    for answer, span in spans:
        assert span is not None
        assert answer.n_prompt <= span.start < span.stop <= len(answer.token_ids)
        decode, token_ids = smollm.tokenizer.decode, answer.token_ids
        assert span.text in decode(token_ids[span.start : span.stop])
        for shorter in (token_ids[span.start + 1 : span.stop], token_ids[span.start : span.stop - 1]):
            assert span.text not in decode(shorter), "the span has no token too many"
        assert answer.stopped or span.stop < len(token_ids), "a cut-off answer may continue its last token"
    assert messages[0].startswith(f"{task} (kind ")
    assert re.search(r": 24 answers: \d+ correct, \d+ incorrect, \d+ undecided", messages[0])
    assert all("were cut off" in message for message in messages[1:])
