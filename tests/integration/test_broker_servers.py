"""Redis as it is run in production: TLS with certificates that are checked, and Sentinel with a fail-over."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from contract.runtime.broker import celery_app, check_broker
from contract.runtime.broker_errors import advice
from contract.runtime.broker_settings import BrokerSettings
from contract.runtime.doctor import broker as doctor
from contract.runtime.errors import OperatorError, UsageError
from contract.runtime.probe import BrokerProbe
from contract.runtime.transport import _RedisOfOurs
from tests.builders import NAME
from tests.controller_process import ControllerProcess, controller_of, free_port
from tests.fake_docker import FakeDocker
from tests.fake_swarm import snapshot, swarm_id
from tests.integration.namespaces import Namespace
from tests.integration.test_controller_process import answer_request
from tests.integration.test_dependencies import RARELY, assert_quiet, node_ready, own
from tests.integration.test_worker_process import running
from tests.servers import await_true
from tests.tls_redis import MASTER, Authority, NetworkRedis, Tls, TlsRedis, Watched


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[FakeDocker]:
    with FakeDocker(tmp_path / "docker.sock", snapshot("one")) as docker:
        yield docker


@pytest.fixture
def host(in_empty_namespace: int) -> Namespace:
    return Namespace(in_empty_namespace)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


def refusal(settings: BrokerSettings) -> str:
    """Why the broker cannot be used: both by kombu and by the doctor."""
    with pytest.raises(OperatorError) as raised:
        check_broker(celery_app("test", settings.broker()))
    (found,) = doctor.check(settings.broker())
    assert found.level == "fail"
    return str(raised.value)


def test_tls_with_certificates_of_both_sides_carries_a_run(
    tmp_path: Path, docker: FakeDocker, authority: Authority
) -> None:
    server, ours = authority.sign("server"), authority.sign("controller")
    with TlsRedis(tmp_path / "redis", authority, server) as redis:
        options = (
            RARELY, "--broker-ca", str(authority.certificate),
            "--broker-cert", str(ours.certificate), "--broker-key", str(ours.key),
        )  # fmt: skip
        with controller_of(tmp_path / "1", docker, redis.tls_url, *options) as controller:
            answer_request(controller, redis)
            await_true(lambda: node_ready(controller) == "True/Converged", "the node is ready")


@pytest.mark.parametrize(
    ("address", "days", "signer", "words"),
    [
        ("127.0.0.1", 90, "theirs", "certificate verify failed"),
        ("127.0.0.9", 90, "ours", "IP address mismatch"),
        ("127.0.0.1", -1, "ours", "certificate has expired"),
    ],
)
def test_tls_with_a_wrong_server_is_refused(
    tmp_path: Path, authority: Authority, address: str, days: int, signer: str, words: str
) -> None:
    signs = authority if signer == "ours" else Authority(tmp_path, "theirs")
    server, ours = signs.sign("server", address=address, days=days), authority.sign("controller")
    with TlsRedis(tmp_path / "redis", authority, server) as redis:
        settings = BrokerSettings.load(
            {
                "broker_url": redis.tls_url,
                "broker_ca": str(authority.certificate),
                "broker_cert": str(ours.certificate),
                "broker_key": str(ours.key),
            }
        )
        assert words in refusal(settings)


def test_tls_is_verified_if_nothing_is_said_about_it(tmp_path: Path, authority: Authority) -> None:
    with TlsRedis(tmp_path / "redis", authority, authority.sign("server")) as redis:
        settings = BrokerSettings.load({"broker_url": redis.tls_url})
        assert "certificate verify failed" in refusal(settings)


def test_certificates_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    given = {"broker_url": "rediss://127.0.0.1/0", "broker_ca": str(tmp_path / "none.crt")}
    with pytest.raises(UsageError, match="certificates for the broker cannot be used: "):
        BrokerSettings.load(given).broker()
    given["broker_url"] = "redis://127.0.0.1/0"
    with pytest.raises(UsageError, match="for a broker without TLS"):
        BrokerSettings.load(given).broker()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://:pa@s3cr3t@host/0", "must be quoted"),
        ("redis://:pa/s3cr3t@host/0", "must be quoted"),
        ("redis://:pa#s3cr3t@host/0", "must be quoted"),
        ("redis://:pa?s3cr3t@host/0", "before the host"),
        ("redis://host/0?password=s3cr3t", "before the host"),
        ("redis://us:s3cr3t:host/0", "port is not a number"),
        ("rediss://:s3cr3t@host/0?ssl_cert_reqs=none", "not in the URL"),
        ("amqp://us:s3cr3t@host//", "AMQP (RabbitMQ) is not supported"),
        ("redis+cluster://:s3cr3t@host", "Redis Cluster is not supported"),
        ("http://:s3cr3t@host", "must begin with"),
    ],
)
def test_a_url_that_cannot_be_right_is_told_and_no_part_of_it_shown(url: str, words: str) -> None:
    with pytest.raises(UsageError) as raised:
        BrokerSettings.load({"broker_url": url})
    text = f"{raised.value} {raised.value.hint}"
    assert words in text
    assert "s3cr3t" not in text
    assert "host/0" not in text


def assert_only_tls(folder: Path, watched: Watched, given: dict[str, str]) -> None:
    """Neither a client without TLS nor one that trusts another authority gets through to the master."""
    plain = {name: value for name, value in given.items() if "sentinel" in name}
    other = {**given, "broker_ca": str(Authority(folder, "theirs").certificate)}
    for wrong in (plain, other):
        settings = BrokerSettings.load({"broker_url": watched.url, **wrong})
        unheard = f"no Sentinel knows a master '{MASTER}' that is up; no answer from 3 of 3: "
        with pytest.raises(OperatorError, match=f"cannot be reached: {unheard}"):
            check_broker(celery_app("test", settings.broker()))


@pytest.mark.parametrize("nodes_slots", ["", "all"])
def test_a_redis_of_a_cluster_is_recognised(tmp_path: Path, nodes_slots: str) -> None:
    of_a_cluster = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with NetworkRedis(tmp_path / "redis", *of_a_cluster) as redis:
        if nodes_slots:
            with redis.client() as client:
                client.execute_command("CLUSTER ADDSLOTSRANGE 0 16383")
                await_true(lambda: client.cluster("INFO")["cluster_state"] == "ok", "it works")
        settings = BrokerSettings.load({"broker_url": f"redis://127.0.0.1:{redis.port}/0"})
        assert "Redis Cluster is not supported" in refusal(settings)
        # Where nothing is checked at the start: what is told of an error of a later time.
        if not nodes_slots:
            with pytest.raises(RedisError) as raised:
                BrokerProbe(celery_app("test", settings.broker()))()
            assert "use Sentinel" in str(advice(raised.value))


def test_sentinel_needs_the_name_of_the_master() -> None:
    with pytest.raises(UsageError, match="the name of the master belong together"):
        BrokerSettings.load({"broker_url": "sentinel://127.0.0.1:26379"}).broker()


@pytest.mark.privileged
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
def test_a_fail_over_by_sentinel_needs_nobody(
    tmp_path: Path, docker: FakeDocker, authority: Authority, host: Namespace, encrypted: bool
) -> None:
    """Neither the controller nor the worker, whose link watch sees a leak while there is no master."""
    given = {
        "broker_sentinel_master": MASTER,
        "broker_sentinel_password": "of-the-sentinels",
    }
    tls = None
    if encrypted:
        ours = authority.sign("controller")
        tls = Tls(authority, authority.sign("server"))
        given |= {
            "broker_ca": str(authority.certificate),
            "broker_cert": str(ours.certificate),
            "broker_key": str(ours.key),
        }
    options = [RARELY]
    for name, value in given.items():
        options += [f"--{name.replace('_', '-')}", value]
    variables = {name.upper(): value for name, value in given.items()}
    variables |= {"NODE_ID": swarm_id("one"), "GRACE_SECONDS": "1"}
    with Watched(tmp_path / "watched", tls) as watched, host.reaching(*watched.ports):
        settings = BrokerSettings.load({"broker_url": watched.url, **given})
        if encrypted:
            assert_only_tls(tmp_path, watched, given)
        with celery_app("test", settings.broker()).connection_for_write() as connection:
            assert isinstance(connection.channel(), _RedisOfOurs)  # with its checks of messages
        assert next(doctor.check(settings.broker())).level == "ok"
        with (
            controller_of(tmp_path / "1", docker, watched.url, *options) as controller,
            running(host, tmp_path, watched.url, **variables) as worker,
        ):
            await_true(lambda: node_ready(controller) == "True/Converged", "the worker has looked")
            watched.master.stop(signal.SIGKILL)
            # MAIL has no task on the node: only a leak has its VNI there.
            host.add_vxlan(NAME, 4098)
            await_true(lambda: own(controller, "BrokerReachable")["status"] == "False", "known")
            await_true(lambda: own(controller, "BrokerReachable")["status"] == "True", "over")
            await_true(lambda: NAME not in host.ip("link"), "the worker has removed it")
            await_true(lambda: "verified" in stages(controller), "the audit trail has it")
            await_true(
                lambda: node_ready(controller) == "True/Converged", "the node is ready again"
            )
            assert_quiet(controller)
            assert "Traceback" not in worker.log


def stages(controller: ControllerProcess) -> list[str]:
    """What the audit trail says of devices, the newest first."""
    return [row["stage"] for row in controller.json("audit")]
