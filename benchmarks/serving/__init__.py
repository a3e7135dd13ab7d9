"""The whole chain against its peers: the same requests, the same machine, the same run."""
