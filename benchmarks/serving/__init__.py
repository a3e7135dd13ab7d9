"""Benchmark of the chain against its peers: the same requests on the same machine in the same run."""
