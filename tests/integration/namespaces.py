"""Private network namespaces for tests, and a Kernel that runs inside one.

Nothing here touches the machine's own network namespace, nor its /run.
"""

import asyncio
import ctypes
import os
import pickle
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, Final, Self, TypeVar

from tests.lab.forward import forward
from worker.kernel.api import KernelError
from worker.kernel.linkmsg import (
    IFLA_IFNAME,
    IFLA_INFO_DATA,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    IFLA_VXLAN_GROUP6,
    IFLA_VXLAN_ID,
    IFLA_VXLAN_L2MISS,
    IFLA_VXLAN_L3MISS,
    IFLA_VXLAN_LEARNING,
    IFLA_VXLAN_PORT,
    IFLA_VXLAN_PROXY,
)
from worker.kernel.model import (
    Device,
    Netns,
    VethPair,
    View,
)
from worker.kernel.socket import (
    HEADER,
    NLM_F_ACK,
    NLM_F_REQUEST,
    NetlinkSocket,
)

_CLONE_NEWNET: Final = 0x40000000

KERNEL_PROGRAM: Final = (sys.executable, "-m", "tests.integration.namespaces")
DOCKERS_FLAGS: Final = ("learning", "proxy", "l2miss", "l3miss")
_DOCKERS_FLAGS: Final = (
    IFLA_VXLAN_LEARNING,
    IFLA_VXLAN_PROXY,
    IFLA_VXLAN_L2MISS,
    IFLA_VXLAN_L3MISS,
)
_RTM_NEWLINK: Final = 16
_NLM_F_EXCL: Final = 0x200
_NLM_F_CREATE: Final = 0x400

_Made = TypeVar("_Made")


def _listen(port: int) -> socket.socket:
    return socket.create_server(("127.0.0.1", port))


def _attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


class Namespace:
    """A network and a mount namespace, held by the process `pid`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        # For `ip netns`, whose files would otherwise appear on the machine.
        self.run("mount", "-t", "tmpfs", "tmpfs", "/run")

    def command(self, *arguments: str) -> list[str]:
        """The command that runs a program in here, and no longer than we live."""
        return [
            "nsenter", f"--net=/proc/{self.pid}/ns/net", f"--mount=/proc/{self.pid}/ns/mnt", "--",
            "setpriv", "--pdeathsig", "KILL", "--", *arguments,
        ]  # fmt: skip

    @property
    def files(self) -> tuple[Path, Path]:
        """For `tests.forked`."""
        return Path(f"/proc/{self.pid}/ns/net"), Path(f"/proc/{self.pid}/ns/mnt")

    def run(self, *arguments: str, words: str = "") -> str:
        """Run a short command with `words` as its input; return what it printed."""
        return subprocess.run(
            self.command(*arguments),
            check=True,
            stdout=subprocess.PIPE,
            input=words,
            text=True,
            timeout=60,
        ).stdout

    def ip(self, words: str) -> str:
        """Run `ip` with these words."""
        return self.run("ip", *words.split())

    def add_vxlan(
        self, name: str, vni: int, *, port: int = 4789, inside: str = "", master: str = ""
    ) -> None:
        """Create a device as Docker does.

        Args:
            inside: a namespace of `ip netns` in here.
            master: a bridge; the device is UP and on it from the beginning.
        """
        where = f"-n {inside} " if inside else ""
        used = f"master {master} up " if master else ""
        flags = " ".join(DOCKERS_FLAGS)
        self.ip(f"{where}link add {name} {used}type vxlan id {vni} dstport {port} {flags}")

    def add_vxlan_over_ipv6(self, name: str, vni: int, *, port: int = 4789) -> None:
        """Create a device as Docker does on an IPv6 underlay: with a group `::`, which `ip` refuses."""
        data = (
            _attribute(IFLA_VXLAN_ID, struct.pack("=I", vni))
            + _attribute(IFLA_VXLAN_PORT, struct.pack("!H", port))
            + _attribute(IFLA_VXLAN_GROUP6, bytes(16))
            + b"".join(_attribute(flag, b"\1") for flag in _DOCKERS_FLAGS)
        )
        info = _attribute(IFLA_INFO_KIND, b"vxlan\0") + _attribute(IFLA_INFO_DATA, data)
        body = (
            bytes(16)  # struct ifinfomsg
            + _attribute(IFLA_IFNAME, name.encode() + b"\0")
            + _attribute(IFLA_LINKINFO, info)
        )
        flags = NLM_F_REQUEST | NLM_F_ACK | _NLM_F_EXCL | _NLM_F_CREATE
        with self.open_netlink(groups=0) as netlink:
            netlink.request(HEADER.pack(HEADER.size + len(body), _RTM_NEWLINK, flags, 0, 0) + body)

    def add_sandbox(self, sandbox: str, name: str, vni: int, *, endpoint: bool) -> None:
        """Build a network's sandbox as Docker does, with or without a container's veth port."""
        self.add_vxlan(name, vni)
        self.ip(f"netns add {sandbox}")
        self.ip(f"link set {name} netns {sandbox} name vxlan0")
        for words in ("add br0 type bridge", "set vxlan0 master br0 up", "set br0 up"):
            self.ip(f"-n {sandbox} link {words}")
        if endpoint:
            self.ip(f"-n {sandbox} link add veth0 type veth peer name veth1")
            self.ip(f"-n {sandbox} link set veth0 master br0")

    def open_netlink(self, *, groups: int, receive_buffer: int | None = None) -> NetlinkSocket:
        """Open a netlink socket in here: it stays here, whoever reads it."""
        return self._inside(partial(NetlinkSocket, groups=groups, receive_buffer=receive_buffer))

    @contextmanager
    def reaching(self, *ports: int) -> Iterator[None]:
        """Lead who connects to these ports of the loopback in here to the same ones outside."""
        self.ip("link set lo up")
        leads = [forward(self._inside(partial(_listen, port)), port) for port in ports]
        ready, ended = threading.Event(), asyncio.Event()
        loop: list[asyncio.AbstractEventLoop] = []

        async def lead() -> None:
            loop.append(asyncio.get_running_loop())
            _tasks = [asyncio.ensure_future(each) for each in leads]
            ready.set()
            await ended.wait()

        thread = threading.Thread(target=asyncio.run, args=(lead(),), daemon=True)
        thread.start()
        ready.wait(10)
        try:
            yield
        finally:
            loop[0].call_soon_threadsafe(ended.set)
            thread.join(10)

    def _inside(self, make: Callable[[], _Made]) -> _Made:
        """Return what was made in here, such as a socket: it stays in the namespace in which it was made."""

        def inside() -> _Made:
            # Python has os.setns() from 3.12 on. It moves the calling thread alone.
            with Path(f"/proc/{self.pid}/ns/net").open() as namespace:
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            return make()

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(inside).result()

    @contextmanager
    def kernel(self, *prefix: str) -> Iterator["KernelProcess"]:
        """The real kernel as a process in here sees it; `prefix`: a command to run it under."""
        with KernelProcess(self.command(*prefix, *KERNEL_PROGRAM)) as kernel:
            yield kernel


class KernelProcess:
    """Implements `worker.kernel.api.Kernel` by a `RouteNetlink` in a process of its own.

    A process, because a netlink socket belongs to the namespace that its process was in.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate(timeout=60)

    def check_capability(self) -> None:
        """See `Kernel.check_capability`."""
        self._call("check_capability")

    def look(self) -> View:
        """See `Kernel.look`."""
        view: View = self._call("look")
        return view

    def read(self, netns: Netns, ifindex: int) -> Device | None:
        """See `Kernel.read`."""
        device: Device | None = self._call("read", netns, ifindex)
        return device

    def delete(self, netns: Netns, ifindex: int) -> None:
        """See `Kernel.delete`."""
        self._call("delete", netns, ifindex)

    def look_at(self, netns: Netns) -> tuple[Device, ...]:
        """See `Kernel.look_at`."""
        devices: tuple[Device, ...] = self._call("look_at", netns)
        return devices

    def joins_under_way(self) -> tuple[VethPair, ...]:
        """See `Kernel.joins_under_way`."""
        pairs: tuple[VethPair, ...] = self._call("joins_under_way")
        return pairs

    def sandbox_files(self) -> Mapping[int, str]:
        """See `Kernel.sandbox_files`."""
        files: Mapping[int, str] = self._call("sandbox_files")
        return files

    def set_group(self, ifindex: int, group: int) -> None:
        """See `Kernel.set_group`."""
        self._call("set_group", ifindex, group)

    def group_members(self, group: int) -> frozenset[int]:
        """See `Kernel.group_members`."""
        members: frozenset[int] = self._call("group_members", group)
        return members

    def delete_group(self, group: int) -> None:
        """See `Kernel.delete_group`."""
        self._call("delete_group", group)

    def _call(self, method: str, *arguments: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pickle.dump((method, arguments), self._process.stdin)
        self._process.stdin.flush()
        result, error = pickle.load(self._process.stdout)  # noqa: S301 -- from our own child
        if error is not None:
            kind, code, message = error
            raise kind(code, message)
        return result


def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    from worker.kernel.rtnetlink import RouteNetlink

    kernel = RouteNetlink.open()
    while True:
        try:
            method, arguments = pickle.load(requests)  # noqa: S301 -- from our own parent
        except EOFError:
            return
        result, failure = None, None
        try:
            result = getattr(kernel, method)(*arguments)
        except KernelError as error:
            failure = type(error), error.code, str(error)
        pickle.dump((result, failure), answers)
        answers.flush()


if __name__ == "__main__":
    _serve(sys.stdin.buffer, os.fdopen(1, "wb"))
