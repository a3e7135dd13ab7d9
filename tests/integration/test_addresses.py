"""The whole stack on IPv6 alone, and on both families."""

from __future__ import annotations

from pathlib import Path
from urllib.request import urlopen

import pytest

from local.endpoints import free_endpoints
from local.stack import LocalStack
from tests.component.test_addresses import needs_ipv6
from tests.integration.conftest import Caller
from tests.integration.messages import infer_request, sales


@needs_ipv6
@pytest.mark.parametrize("host", ["::1", "::"])
def test_every_part_serves_on_ipv6(host: str, tmp_path: Path, predictor_python: Path) -> None:
    with LocalStack(free_endpoints(host), tmp_path / "run", predictor_python) as stack:
        for part in ("preprocess", "postprocess", "controller", "predictor"):
            assert stack.address(part).startswith("[::1]:")
            with urlopen(stack.metrics_url(part), timeout=10) as page:
                assert page.status == 200
        port = stack.address("preprocess").rpartition(":")[2]
        for family in ("[::1]", "127.0.0.1") if host == "::" else ("[::1]",):
            caller = Caller(f"{family}:{port}")
            try:
                assert caller.infer(infer_request("sales_forecast_de", sales())).model_version
            finally:
                caller.channel.close()
