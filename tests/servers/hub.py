"""The hub on loopback. It lives with the demo, which serves the declared base with it."""

from demo.hub_server import Asked, HubServer

__all__ = ["Asked", "HubServer"]
