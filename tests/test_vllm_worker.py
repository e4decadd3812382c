"""Recording in vLLM's workers, with a worker of two blocks whose residual stream is known."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from probemap.models.vllm_worker import StateRecorder


class Norm(torch.nn.Module):
    """Like vLLM's norms: adds the two states and returns the sum beside the normalised sum."""

    def forward(self, hidden: torch.Tensor, residual: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        residual = hidden if residual is None else hidden + residual
        return residual / 2, residual


class CohereNorm(torch.nn.Module):
    """Like the norm of Cohere's models in vLLM: returns the second state unchanged."""

    def forward(self, hidden: torch.Tensor, residual: torch.Tensor | None) -> tuple[torch.Tensor, Any]:
        return hidden / 2, residual


class Block(torch.nn.Module):
    """Adds 100 to the residual stream and returns it as two states."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = Norm()

    def forward(self, hidden: torch.Tensor, residual: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        hidden, residual = self.norm(hidden, residual)
        return torch.full_like(hidden, 100.0), residual


class CohereBlock(torch.nn.Module):
    """Adds 100 to the residual stream and returns it as the first state."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = CohereNorm()

    def forward(self, hidden: torch.Tensor, residual: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        residual = hidden
        self.norm(hidden, residual)
        return residual + 100, residual


class WholeBlock(torch.nn.Module):
    """Adds 100 to the residual stream and returns it as one state."""

    def forward(self, hidden: torch.Tensor, residual: None) -> torch.Tensor:
        return hidden + 100


class Network(torch.nn.Module):
    def __init__(self, block: type[torch.nn.Module]) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList([block(), block()])

    def forward(self, hidden: torch.Tensor) -> None:
        output: Any = (hidden, None)
        for layer in self.layers:
            output = layer(*output) if isinstance(output, tuple) else layer(output, None)


class Worker(StateRecorder):
    """A worker whose network embeds token i of a request as 10 × request + i, in a residual stream of width 2."""

    def __init__(self, block: type[torch.nn.Module] = Block, rank: int = 0) -> None:
        self.rank = rank
        self.network = Network(block)
        config = SimpleNamespace(num_hidden_layers=2, hidden_size=2)
        self.model_runner = SimpleNamespace(
            get_model=lambda: self.network,
            model_config=SimpleNamespace(hf_text_config=config),
            input_batch=SimpleNamespace(num_reqs=0, req_ids=[], num_computed_tokens_cpu=np.zeros(8, np.int32)),
            query_start_loc=SimpleNamespace(np=np.zeros(9, np.int32)),
            requests={},
        )

    def expect(self, selections: dict[str, dict[str, Any]]) -> None:
        """Announce requests whose states are recorded."""
        for id_, fields in selections.items():
            params = SimpleNamespace(extra_args={"other": 1, "probemap": fields})
            self.model_runner.requests[f"{id_}-abc"] = SimpleNamespace(sampling_params=params)

    def step(self, *chunks: tuple[str, int, int]) -> None:
        """Process the tokens from start to stop of some requests, and a row of padding."""
        batch = self.model_runner.input_batch
        for id_, _, _ in chunks:
            unrecorded = SimpleNamespace(sampling_params=SimpleNamespace(extra_args=None))
            self.model_runner.requests.setdefault(id_, unrecorded)
        batch.num_reqs, batch.req_ids = len(chunks), [id_ for id_, _, _ in chunks]
        batch.num_computed_tokens_cpu[: len(chunks)] = [start for _, start, _ in chunks]
        sizes = [stop - start for _, start, stop in chunks]
        self.model_runner.query_start_loc.np[1 : len(chunks) + 1] = np.cumsum(sizes)
        values = [10 * int(id_.partition("-")[0][1:]) + i for id_, start, stop in chunks for i in range(start, stop)]
        self.network(torch.tensor([*values, -1.0])[:, None].repeat(1, 2))

    def take(self, id_: str) -> tuple[list[int], list[list[float]]]:
        """Return the token indices of a request and the states, of which both components are the same."""
        result = self.probemap_take([id_])
        assert result["error"] == ""
        recorded = result["states"][id_]
        states = np.frombuffer(recorded["data"], np.float32).reshape(recorded["shape"])
        assert (states[:, :, 0] == states[:, :, 1]).all()
        return recorded["indices"], states[:, :, 0].tolist()


@pytest.mark.parametrize("block", [Block, WholeBlock])
def test_requested_tokens_of_each_request_are_recorded(block: type[torch.nn.Module]) -> None:
    worker = Worker(block)
    assert worker.probemap_start(None) == {"error": "", "n_layers": 2, "d": 2, "model": "Network"}
    worker.expect({"r1": {"first": 2}, "r3": {"indices": [4, 0, 4]}})
    worker.step(("r1-abc", 0, 3), ("r2-abc", 0, 2), ("r3-abc", 0, 2))
    worker.step(("r3-abc", 2, 5), ("r1-abc", 3, 4))  # another order, and the last part of a prompt
    assert worker.take("r1") == ([2, 3], [[112.0, 212.0], [113.0, 213.0]])
    assert worker.take("r3") == ([0, 4], [[130.0, 230.0], [134.0, 234.0]])
    assert worker.take("r2") == ([], [])


def test_layers_are_counted_from_the_output_of_the_first_block() -> None:
    worker = Worker()
    worker.probemap_start([1])
    worker.expect({"r1": {"first": 0}})
    worker.step(("r1-abc", 0, 1))
    assert worker.take("r1") == ([0], [[210.0]])


def test_states_are_fetched_once_and_discarded_at_the_end() -> None:
    worker = Worker()
    worker.probemap_start(None)
    worker.expect({"r1": {"first": 0}})
    worker.step(("r1-abc", 0, 1))
    assert worker.take("r1")[0] == [0]
    assert worker.take("r1")[0] == []
    worker.expect({"r2": {"first": 0}})
    worker.probemap_stop()
    worker.step(("r2-abc", 0, 1))
    assert worker.probemap_take(["r2"]) == {"states": {}, "error": ""}
    worker.probemap_start(None)
    assert worker.take("r2")[0] == []


def test_only_the_first_rank_records() -> None:
    worker = Worker(rank=1)
    assert worker.probemap_start(None)["n_layers"] == 2
    worker.expect({"r1": {"first": 0}})
    worker.step(("r1-abc", 0, 1))
    assert worker.probemap_take(["r1"]) == {"states": {}, "error": ""}


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (Block, ""),
        (WholeBlock, ""),
        (CohereBlock, "the residual stream is not the sum of the outputs of CohereBlock"),
    ],
)
def test_residual_stream_is_checked(block: type[torch.nn.Module], reason: str) -> None:
    worker = Worker(block)
    worker.probemap_check_begin()
    worker.step(("r1-abc", 0, 3))
    assert worker.probemap_check_end() == reason


def test_block_that_returns_another_value_is_reported() -> None:
    worker = Worker()
    worker.probemap_start(None)
    worker.expect({"r1": {"first": 0}})
    worker.network.layers[1].register_forward_hook(lambda *_: (torch.zeros(2, 3), None), prepend=True)
    worker.step(("r1-abc", 0, 1))
    error = worker.probemap_take(["r1"])["error"]
    assert error == "the output of Block 1 is not a residual stream of width 2"


def test_changed_interface_of_vllm_is_reported() -> None:
    worker = Worker()
    del worker.model_runner.query_start_loc
    assert "query_start_loc" in worker.probemap_start(None)["error"]
    worker = Worker()
    worker.network.layers.append(Block())
    assert worker.probemap_start(None)["error"] == "LookupError: Network has no list of 2 blocks"
