"""Links to traces, and what is said where the extra is not installed."""

import sys
from uuid import UUID

import pytest

from contract.runtime.errors import UsageError
from controller.traces.collector import Address, Collector
from controller.traces.link import trace_url

RUN = UUID("0f3c2d1e-0000-4000-8000-00000000abcd")


def test_the_trace_id_is_the_id_of_the_run() -> None:
    url = trace_url("https://jaeger.example/trace/{trace_id}", RUN)
    assert url == "https://jaeger.example/trace/0f3c2d1e0000400080000000" + "0000abcd"


@pytest.mark.parametrize(("pattern", "run"), [("", RUN), ("https://x/{trace_id}", None)])
def test_without_a_pattern_or_a_run_there_is_no_url(pattern: str, run: UUID | None) -> None:
    assert trace_url(pattern, run) is None


def test_without_the_extra_the_error_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.proto.collector.trace.v1", None)
    with pytest.raises(UsageError) as caught:
        Collector(Address("http://127.0.0.1:4318/v1/traces"))
    assert "VXLAN_OPERATOR_TRACES_ENDPOINT" in caught.value.problem
    assert caught.value.hint == "pip install 'vxlan-operator[controller,otel]'"


def test_a_ca_that_cannot_be_used_is_told() -> None:
    with pytest.raises(UsageError, match="CA of the collector") as caught:
        Collector(Address("https://127.0.0.1:4318/v1/traces", ca="/nonexistent"))
    assert "VXLAN_OPERATOR_TRACES_CA" in (caught.value.hint or "")
