"""An independent witness of what the kernel does to links: `ip monitor`, which knows nothing of us."""

import re
import subprocess
import threading
from typing import NamedTuple, Self

from tests.lab import Node
from tests.servers import await_true

_HERE = "current"
# Without a qdisc it is a bridge that tells of a port which leaves it; with a new-netnsid the link is moved.
_DELETED = re.compile(
    r"^\[nsid (\w+)\]Deleted (\d+): ([^:@\s]+)(?=.* qdisc )(?!.* new-netnsid )", re.MULTILINE
)


class Deletion(NamedTuple):
    """A link that is no more; the namespace is `current` for the node's own, else its nsid."""

    namespace: str
    ifindex: int
    name: str


class Witness:
    """Writes down every deletion of a link in a node's network namespace and in its sandboxes."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._lines: list[str] = []
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = self._node.popen(
            ["stdbuf", "-oL", "ip", "-oneline", "monitor", "link", "all-nsid"],
            stdout=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()
        try:
            await_true(self._listens, "the witness listens", pause=0.1)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(60)

    def deletions(self, name: str) -> list[int]:
        """The ifindexes of deleted links of that name in the node's own namespace, in order."""
        return [each.ifindex for each in self._all() if each[::2] == (_HERE, name)]

    def vxlan_deletions(self) -> list[Deletion]:
        """The deletions of VXLAN devices of Docker's, in all namespaces, in order."""
        return [each for each in self._all() if each.name.startswith("vx")]

    def _listens(self) -> bool:
        """Whether it has shown an event of ours. To be asked again: what it missed it never shows."""
        self._node.run(["ip", "link", "add", "witness", "type", "bridge"])
        self._node.run(["ip", "link", "delete", "witness"])
        return bool(self.deletions("witness"))

    def _all(self) -> list[Deletion]:
        found = _DELETED.findall("".join(self._lines))
        return [Deletion(namespace, int(ifindex), name) for namespace, ifindex, name in found]

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line)
