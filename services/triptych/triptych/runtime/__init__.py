"""The process: settings, addresses, TLS files, the thread pool and the bytes in flight."""
