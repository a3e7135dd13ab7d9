"""gRPC over HTTP/2 on an asyncio loop: a call wakes no thread.

libnghttp2, through the package ngh2, implements frames, header compression, flow control and the protocol's state.

- `connection`: libnghttp2 on a transport of asyncio, for both sides
- `server`: the connections of callers; `server_stream`: one call; `call_memory`: its memory; `message_deframer`: its
  messages
- `client`: one connection with its calls; `channel`: the connections to all addresses of a name
- `framing`: message prefix, compression, timeout, status; `oversized`: the filter of oversized header fields
- `malformed`: the answer to a call whose header fields HTTP/2 forbids

Only this package imports ngh2, so that another binding can replace it.
"""
