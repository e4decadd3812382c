"""The way through with the demo's real model, on a few questions of each task."""

from pathlib import Path

import pytest

from probemap.logger import Logger
from probemap.models.loading import Loader
from probemap.models.model import Model
from probemap.runs.integrity import read_answers
from probemap.runs.options import Answering
from probemap.runs.pipeline import answer
from probemap.runs.steps.judge import judge
from probemap.tasks.builtin import TASKS


@pytest.mark.parametrize("task", TASKS)
def test_exact_answers_are_whole_tokens_of_real_answers(task: str, smollm: Model, tmp_path: Path) -> None:
    loader = Loader("smollm2-135m")
    told: list[str] = []
    logger = Logger(told.append)
    run = answer(task, loader, tmp_path / "RUN", Answering(n=24, seed=7), logger=logger, models={loader: smollm})
    judge(run, logger=logger)
    _, answers, judgements = read_answers(run)
    spans = [(a, j.span) for a, j in zip(answers, judgements, strict=True) if j.span]
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
