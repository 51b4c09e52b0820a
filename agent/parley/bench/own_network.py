"""Runs a module in a network of its own, with nothing in it but a loopback: Linux namespaces.

    python -m parley.bench.own_network MODULE ARGUMENTS...

What the module opens from then on reaches nobody outside; only the sockets that were made before
do, and those are all that a relay (`parley.bench.relay`) has. So no packet goes round the relay,
which a client would otherwise do within seconds: WebRTC looks for the shortest way. It takes root,
or a kernel that lets everybody have user namespaces. Nothing is left when the process ends.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import socket
import struct
import subprocess
import sys

from parley.bench.relay import Sockets

INTERFACE, ADDRESS = "bench0", "198.18.0.1/24"
"""Of the range for benchmarks (RFC 2544)."""
NO_NETWORK = 69
"""Exit status where a process cannot have a network of its own (EX_UNAVAILABLE)."""

_CLONE_NEWUSER, _CLONE_NEWNET = 0x1000_0000, 0x4000_0000
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1
_IFREQ = struct.Struct("16sH22x")

outside: Sockets | None = None
"""The sockets into the network that this process came from; None: it has no network of its own."""


class NoOwnNetwork(RuntimeError):
    """This machine does not let this user have a network namespace."""


def enter() -> Sockets:
    """Takes this thread, and those that it starts from now on, into a new network.

    Gives the sockets that still reach the old one. Raises NoOwnNetwork.
    """
    global outside
    if sys.platform != "linux":
        raise NoOwnNetwork("network namespaces are Linux's; this is " + sys.platform)
    made = Sockets.make()
    try:
        _unshare()
        _loopback_up()
        _add_interface()
    except (OSError, subprocess.CalledProcessError) as error:
        made.close()
        raise NoOwnNetwork(
            f"no network namespace ({_reason(error)}): it takes iproute2's ip, and root or a "
            "kernel that allows user namespaces"
        ) from error
    outside = made
    return made


def _unshare() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET):
        if libc.unshare(flags) == 0:
            return
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number))


def _loopback_up() -> None:
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        asked = _IFREQ.pack(b"lo", 0)
        _, flags = _IFREQ.unpack(fcntl.ioctl(control, _GET_FLAGS, asked))
        fcntl.ioctl(control, _SET_FLAGS, _IFREQ.pack(b"lo", flags | _UP))


def _add_interface() -> None:
    """A pair of interfaces that leads nowhere: WebRTC takes no address of a loopback for its own,
    and reaches 127.0.0.1 from this one."""
    for command in (
        f"link add {INTERFACE} type veth peer name {INTERFACE}x",
        f"address add {ADDRESS} dev {INTERFACE}",
        f"link set {INTERFACE} up",
        f"link set {INTERFACE}x up",
    ):
        subprocess.run(["ip", *command.split()], check=True, capture_output=True, text=True)


def _reason(error: OSError | subprocess.CalledProcessError) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error.stderr).strip()


def main() -> None:
    from parley.bench import own_network  # the module that others import; this one is __main__

    if len(sys.argv) < 2:
        sys.exit("expected: python -m parley.bench.own_network MODULE ARGUMENTS...")
    try:
        own_network.enter()
    except own_network.NoOwnNetwork as error:
        print(error, file=sys.stderr)
        sys.exit(NO_NETWORK)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
