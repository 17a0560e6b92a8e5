"""The socket of the HTTP API."""

import socket

from controller.process import controller


def test_an_answer_does_not_wait_for_the_acknowledgement_of_its_headers() -> None:
    """With Nagle's algorithm each answer over a connection that is kept took 40 ms more."""
    with (
        controller.listen("127.0.0.1:0") as listener,
        socket.create_connection(listener.getsockname(), timeout=10),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
