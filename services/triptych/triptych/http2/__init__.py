"""gRPC over HTTP/2 on an asyncio loop: a call wakes no thread.

libnghttp2 (by the package ngh2) has frames, header compression, flow control and the rules of the protocol;
`connection` joins it to a transport, `server` and `client` have the calls, `channel` has the connections to all
addresses of a name. `framing` has gRPC's own words, and `oversized` takes out header fields that libnghttp2 would end a
connection for. Nothing outside of this package names ngh2, so that another binding can take its place.
"""
