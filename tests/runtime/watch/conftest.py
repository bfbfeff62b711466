import json
import logging
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from packages import needs
from watching import RESULTS, Client, Mosquitto, Running, Watch, Watching
from webserver import Server

import edgeae_runtime
from edgeae_runtime.watch import loop, metrics, service
from edgeae_runtime.watch.sinks import http


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def call(*words: object, **env: str) -> Running:
        started.append(Running(tmp_path, *words, **env))
        return started[-1]

    yield call
    for running in started:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()
        assert running.process.stdin is not None
        running.process.stdin.close()


@pytest.fixture(scope="session")
def own(tiny: Path) -> edgeae_runtime.Autoencoder:
    return edgeae_runtime.load(tiny, engine="onnxruntime", precision="float32")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path / "mosquitto")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def windowed(tiny: Path, tmp_path: Path) -> Path:
    """The tiny bundle as one of windows of three readings of two channels."""
    folder = shutil.copytree(tiny, tmp_path / "pump.edgeae")
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["input"].update(shape=[3, 2], features=None, window=3, stride=1)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "manifest.sha256").unlink()  # which tells of a change by hand
    return folder


@pytest.fixture
def clients(broker: Mosquitto) -> Iterator[tuple[Client, Client]]:
    """A publisher and a collector."""
    publisher, collector = Client(broker, "publisher"), Client(broker, "collector", RESULTS)
    yield publisher, collector
    publisher.close()
    collector.close()


@pytest.fixture
def watches() -> Iterator[Callable[..., Watch]]:
    """Starts watches, and ends those that a test left."""
    started: list[Watch] = []

    def start(*arguments: Any, **env: str) -> Watch:
        started.append(Watch(*arguments, **env))
        return started[-1]

    yield start
    for watch in started:
        if watch.process.poll() is None:
            watch.kill()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate authority of our own, and a server's certificate by it."""
    needs("openssl")
    folder = tmp_path_factory.mktemp("tls")
    (folder / "names").write_text("subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n")
    for words in (
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 30 -subj /CN=test-ca "
        "-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign",
        "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost",
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 30 "
        "-extfile names",
    ):
        subprocess.run(["openssl", *words.split()], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def locked(certificates: Path, tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker with TLS and a password."""
    needs("mosquitto")
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-c", "-b", passwords, "pump", "s3cr3t:-)"], check=True)
    broker = Mosquitto(
        tmp_path / "locked",
        "allow_anonymous false",
        f"password_file {passwords}",
        f"certfile {certificates}/server.pem",
        f"keyfile {certificates}/server.key",
        tls=True,
    )
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.end()


@pytest.fixture
def watching(tiny, tmp_path, monkeypatch, caplog) -> Iterator[Callable[..., Watching]]:
    """Starts watches that try again soon, and ends them."""
    monkeypatch.setattr(http, "FIRST_DELAY", (0.01, 0.02))
    monkeypatch.setattr(http, "LONGEST_DELAY", (0.05, 0.1))
    for module in (loop, metrics):
        monkeypatch.setattr(module, "STOP_SECONDS", 0.02)
    caplog.set_level(logging.INFO, service.LOGGER_NAME)
    started: list[Watching] = []

    def call(url: str, **settings: Any) -> Watching:
        started.append(Watching(tiny, **{"post": url, "state": tmp_path / "state", **settings}))
        return started[-1]

    yield call
    for running in started:
        running.end()
