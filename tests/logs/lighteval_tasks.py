"""Tasks of lighteval on the local questions; lighteval imports this file."""

from typing import Any

import numpy as np
from lighteval.metrics.metrics import Metrics
from lighteval.metrics.metrics_sample import MajAtN
from lighteval.metrics.utils.metric_utils import SampleLevelMetric
from lighteval.tasks.lighteval_task import LightevalTaskConfig
from lighteval.tasks.requests import Doc, SamplingMethod


def _open_question(line: dict[str, Any], task_name: str) -> Any:
    query = f"Question: {line['question']}\nAnswer:"
    return Doc(
        task_name=task_name, query=query, choices=list(line["aliases"]), gold_index=list(range(len(line["aliases"])))
    )


def _question_of_one_gold(line: dict[str, Any], task_name: str) -> Any:
    query = f"Question: {line['question']}\nAnswer:"  # a majority is refused for several golds
    return Doc(task_name=task_name, query=query, choices=[line["answer"]], gold_index=0)


def _choice_question(line: dict[str, Any], task_name: str) -> Any:
    query = f"Question: {line['question']}\nAnswer:"
    choices = [f" {choice}" for choice in line["choices"]]
    return Doc(task_name=task_name, query=query, choices=choices, gold_index=line["label"])


def _task(name: str, prompt_function: Any, metrics: list[Any]) -> Any:
    return LightevalTaskConfig(
        name=name,
        prompt_function=prompt_function,
        hf_repo="lighteval_questions",
        hf_subset="default",
        hf_avail_splits=["train", "test"],
        evaluation_splits=["test"],
        few_shots_split="train",
        few_shots_select="sequential",
        generation_size=24,
        metrics=metrics,
        stop_sequence=["\n", "Question:"],
    )


_MAJORITY = SampleLevelMetric(
    metric_name="maj@3",
    sample_level_fn=MajAtN(n=3, strip_strings=True),
    category=SamplingMethod.GENERATIVE,
    corpus_level_fn=np.mean,
    higher_is_better=True,
)
TASKS_TABLE = [
    _task("lighteval_open", _open_question, [Metrics.exact_match]),
    _task("lighteval_samples", _question_of_one_gold, [_MAJORITY]),
    _task("lighteval_choices", _choice_question, [Metrics.loglikelihood_acc]),
]
