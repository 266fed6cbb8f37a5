"""A reverse proxy before the embedded Triton: the only part of it that strangers reach.

Triton itself listens on Unix sockets in a folder that only its user may enter. So what is known to end it from outside
 (see SECURITY.md) never reaches it: messages are bounded, packed and unpacked, methods that administer the server
are closed, and HTTP is parsed here. TLS and the token are here, too, and the ports stay open while Triton is started
again: requests wait for it.

It runs as a process of its own, without the rest of the SDK: the standard library and gRPC are all that it imports.
"""
