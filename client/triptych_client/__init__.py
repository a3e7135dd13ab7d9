"""Ask models of Triptych from Python: record batches of Arrow in, record batches out."""
