"""Ask models of Triptych from Python: record batches of Arrow in, record batches out.

from triptych_client import Ask

ask = Ask("sales_forecast_de", address="127.0.0.1:9000")
answers = ask(batch)
"""

from triptych_client.ask import Ask
from triptych_client.connection import Tls
from triptych_client.errors import AskError, InvalidColumns, InvalidOptions, RefusedRow, RequestFailed

__all__ = ["Ask", "AskError", "InvalidColumns", "InvalidOptions", "RefusedRow", "RequestFailed", "Tls"]
