"""The way through with the demo's real model, on a few questions of each task."""

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
def test_exact_answers_are_whole_tokens_of_real_answers(task: str, smollm: Model, tmp_path: Path) -> None:
    loader = Loader("smollm2-135m")
    told: list[str] = []
    logger = Logger(told.append)
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
    for said, span in spans:
        assert span is not None
        assert said.n_prompt <= span.start < span.stop <= len(said.token_ids)
        decode = smollm.tokenizer.decode
        assert span.text in decode(said.token_ids[span.start : span.stop])
        for cut in (said.token_ids[span.start + 1 : span.stop], said.token_ids[span.start : span.stop - 1]):
            assert span.text not in decode(cut), "no token too many"
        assert said.stopped or span.stop < len(said.token_ids), "nothing that can be cut off"
    assert told == []
