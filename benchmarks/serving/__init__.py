"""Benchmark of Triptych against its peers: the same requests on the same machine in the same run."""
