"""The way to Docker: which managers, and TLS or the consent to do without."""

from pathlib import Path

import pytest

from contract.runtime.dockerd import Docker, DockerTls
from contract.runtime.errors import UsageError
from controller.process.docker_settings import DockerSettings
from tests.certificates import Pair, make


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make(tmp_path_factory.mktemp("tls"), "docker")


def refused(**given: str) -> str:
    with pytest.raises(UsageError) as raised:
        DockerSettings.load(given).dockers()
    return f"{raised.value.problem} -- {raised.value.hint}"


def test_several_managers_are_asked_in_their_order() -> None:
    given = {
        "docker_host": "unix:///run/docker.sock, tcp://127.0.0.1:2375,tcp://[::1]:2375,tcp://localhost:1"
    }
    assert [each.url for each in DockerSettings.load(given).dockers()] == [
        "unix:///run/docker.sock",
        "tcp://127.0.0.1:2375",
        "tcp://[::1]:2375",
        "tcp://localhost:1",
    ]


@pytest.mark.parametrize(
    "hosts",
    [
        "garbage", "unix://", "unix://relative", ",", "unix:///a,", "tcp://127.0.0.1",
        "tcp://127.0.0.1:99999", "tcp://127.0.0.1:0", "tcp://:1", "tcp://:::", "http://127.0.0.1:2375",
        "https://[::1", "ssh://nobody@127.0.0.1:1", "npipe://x", "fd://x", "tcp://u:secret@127.0.0.1:1",
        "tcp://127.0.0.1:1/path", "tcp://a b:1", "unix:///a unix:///b",
        "tcp://" + "x" * 300 + ":1",
    ],
)  # fmt: skip
def test_what_is_no_docker_api_is_refused(hosts: str) -> None:
    assert "must be unix:///PATH or tcp://HOST:PORT" in refused(docker_host=hosts)


def test_a_manager_is_named_once_and_there_is_a_bound() -> None:
    assert "each manager once" in refused(docker_host="unix:///a,unix:///a")
    assert "15 at most" in refused(docker_host=",".join(f"unix:///{n}" for n in range(16)))


@pytest.mark.parametrize(
    "host", ["tcp://192.0.2.1:2375", "tcp://manager-1:2375", "tcp://[2001:db8::1]:2375"]
)
def test_plain_tcp_beyond_loopback_needs_consent(host: str) -> None:
    hosts = f"unix:///run/docker.sock,{host}"
    assert f"{host} is not loopback" in refused(docker_host=hosts)
    settings = DockerSettings.load({"docker_host": hosts, "docker_plain": "true"})
    assert settings.dockers()[1] == Docker(host)


def test_tls_is_for_tcp_alone(pair: Pair) -> None:
    files = {
        "docker_ca": str(pair.certificate),
        "docker_cert": str(pair.certificate),
        "docker_key": str(pair.key),
    }
    hosts = "unix:///run/docker.sock,tcp://192.0.2.1:2376"
    first, second = DockerSettings.load({"docker_host": hosts, **files}).dockers()
    assert first.tls is None
    assert second.tls == DockerTls(*files.values())
    assert "needs none -- write VXLAN_OPERATOR_DOCKER_HOST as tcp" in refused(**files)


def test_files_that_cannot_be_used_are_told(pair: Pair, tmp_path: Path) -> None:
    ca, key = str(pair.certificate), str(pair.key)
    other = make(tmp_path, "other", algorithm="ec")
    host = "tcp://192.0.2.1:2376"
    for files in (
        {"docker_cert": ca, "docker_key": key},
        {"docker_ca": ca, "docker_cert": ca},
        {"docker_ca": ca, "docker_key": key},
        {"docker_ca": str(tmp_path / "none")},
        {"docker_ca": key},
        {"docker_ca": ca, "docker_cert": ca, "docker_key": str(other.key)},
    ):
        assert "the certificates for Docker cannot be used: " in refused(docker_host=host, **files)
