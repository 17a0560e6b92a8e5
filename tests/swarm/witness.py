"""An independent witness of what the kernel does to links: `ip monitor`, which knows nothing of us."""

import re
import subprocess
import threading
from typing import Self

from tests.lab import Node
from tests.servers import await_true

_DELETED = re.compile(r"^Deleted (\d+): ([^:@\s]+)", re.MULTILINE)


class Witness:
    """Writes down every deletion of a link in a node's network namespace."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._lines: list[str] = []
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = self._node.popen(
            ["stdbuf", "-oL", "ip", "monitor", "link"], stdout=subprocess.PIPE, text=True
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
        self._process.wait(10)

    def deletions(self, name: str) -> list[int]:
        """The ifindexes of deleted links of that name, in order."""
        return [int(index) for index, deleted in _DELETED.findall(self._text()) if deleted == name]

    def _listens(self) -> bool:
        """Whether it has shown an event of ours. To be asked again: what it missed it never shows."""
        self._node.run(["ip", "link", "add", "witness", "type", "bridge"])
        self._node.run(["ip", "link", "delete", "witness"])
        return bool(self.deletions("witness"))

    def _text(self) -> str:
        return "".join(self._lines)

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line)
