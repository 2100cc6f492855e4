"""The load generator: many subscribers and a publisher in one loop, and the cases that are measured with it.

It knows the daemon from outside only, as any server that is subscribed over HTTP and published to over ZeroMQ or HTTP; so the same load
goes to others for comparison. `sse-daemon bench` runs it against a daemon that is up; bench/ of the repository, side by side.
"""
