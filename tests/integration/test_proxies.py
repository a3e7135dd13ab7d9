"""The whole stack with the proxy of a cluster in its environment: nobody asks the proxy."""

from __future__ import annotations

from pathlib import Path

import pytest

from local.endpoints import free_endpoints
from local.stack import LocalStack
from tests.fakes.http_proxy import http_proxy
from tests.fakes.span_collector import Collector
from tests.integration.conftest import Caller
from tests.integration.messages import infer_request, sales


@pytest.mark.parametrize("transport", ["http2", "grpcio"])
def test_no_call_of_the_stack_uses_the_proxy(transport: str, tmp_path: Path, predictor_python: Path) -> None:
    collector = Collector()
    stages = ("PREPROCESS", "POSTPROCESS", "CONTROLLER")
    settings = {f"{stage}_TRANSPORT": transport for stage in stages}
    settings |= {f"{stage}_OTLP_ENDPOINT": collector.address for stage in stages}
    with http_proxy() as proxy:
        variables = settings | proxy.environment
        with LocalStack(free_endpoints(), tmp_path / "run", predictor_python, variables=variables) as stack:
            caller = Caller(stack.address("preprocess"))
            try:
                assert caller.infer(infer_request("sales_forecast_de", sales())).model_version
            finally:
                caller.channel.close()
        assert proxy.asked == []
    assert {span.service for span in collector.spans()} >= {"triptych-preprocess", "triptych-postprocess"}
    collector.close()
