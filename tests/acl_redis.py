"""A Redis with the users of `vxctl broker acl --bootstrap`, and one that may do anything."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis

from contract.runtime import acl
from controller.cli.broker import acl_
from tests.servers import RedisServer


class AclRedis(RedisServer):
    """Nobody gets in without a login; after a restart it has the users of its file alone.

    Attributes:
        secrets: the folder of passwords.
        aclfile: its users.
    """

    def __init__(self, folder: Path, *options: str, secrets: Path | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder)
        self.secrets = secrets or folder / "secrets"
        self.aclfile = self.secrets / "users.acl"
        self.path = folder / "redis.sock"
        self.options = options
        acl_(bootstrap=self.secrets)
        with self.aclfile.open("a") as file:
            file.write("user admin on >admin ~* &* +@all\n")
            # As docs/configuration.md says.
            file.write("user replica on >of-replicas +ping +psync +replconf\n")
            file.write(
                "user sentinel on >of-sentinels &* +ping +info +role +multi +exec +slaveof +subscribe "
                "+publish +config|rewrite +client|setname +client|kill +script|kill\n"
            )

    def command(self) -> Sequence[str]:
        """See `Server.command`."""
        return (*super().command(), "--aclfile", str(self.aclfile), *self.options)

    def password(self, user: str) -> str:
        """The password of `controller` or `join`."""
        return (self.secrets / f"{user}.password").read_text().strip()

    def url_of(self, user: str) -> str:
        """The URL that logs `controller` or `join` in."""
        return f"redis+socket://{user}:{self.password(user)}@{self.path}"

    def client(self) -> redis.Redis:
        """A client with the rights of `controller`."""
        return self.as_user(acl.CONTROLLER_USER, self.password(acl.CONTROLLER_USER))

    def as_user(self, user: str, password: str) -> redis.Redis:
        """A client of somebody."""
        path = str(self.path)
        # As ours: without CLIENT SETINFO.
        return redis.Redis(
            unix_socket_path=path, username=user, password=password, driver_info=None
        )

    def admin(self) -> redis.Redis:
        """A client that may do anything."""
        return self.as_user("admin", "admin")

    def users(self) -> dict[str, str]:
        """The nodes' users that it has, and how it shows them."""
        with self.admin() as client:
            lines: Any = client.execute_command("ACL", "LIST")
        found = (line.decode().split(" ", 2) for line in lines)
        return {name: rest for _, name, rest in found if acl.node_of(name) is not None}
