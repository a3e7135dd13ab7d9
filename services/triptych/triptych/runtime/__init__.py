"""Process-wide parts: settings, addresses, TLS files, thread pool, bytes in flight, moving averages."""
