"""A real server process: its port, its end, and what it needs."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.serving.common import NUMBERS, as_json

import isthmus
from isthmus import Autoencoder

SLOW = """
import sys, time
from isthmus import Autoencoder, serving
encode = Autoencoder.transform
def slow(self, X, y=None):
    print("working", flush=True)
    time.sleep(1.0)
    return encode(self, X)
Autoencoder.transform = slow
assert not {"fastapi", "uvicorn", "prometheus_client"} & set(sys.modules), "optional libraries are imported early"
answered = serving.serve(sys.argv[1], port=0, ready=lambda address: print(address, flush=True))
print(f"answered {answered}", flush=True)
"""


@pytest.fixture(scope="module")
def path(autoencoder: Autoencoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(autoencoder.save(tmp_path_factory.mktemp("served") / "model.safetensors"))


@contextmanager
def process(*command: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server process and its port."""
    words = [sys.executable, "-c", *command]
    made = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    assert made.stdout is not None
    assert made.stderr is not None
    try:
        found = re.search(r"http://127\.0\.0\.1:(\d+)", made.stdout.readline())
        assert found is not None, made.stderr.read()
        yield made, int(found[1])
    finally:
        if made.poll() is None:
            made.kill()
        made.wait()
        made.stdout.close()
        made.stderr.close()


def post(port: int, path: str, body: bytes) -> tuple[int, dict[str, object], str | None]:
    """Status, JSON and what the server says of the connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read()), reply.headers["connection"]
    finally:
        connection.close()


def test_sigterm_lets_accepted_requests_finish_and_the_exit_code_is_0(autoencoder: Autoencoder, path: Path) -> None:
    body = json.dumps({"records": as_json(NUMBERS.head(1))}).encode()
    replies = list[tuple[int, dict[str, object], str | None]]()
    with process(SLOW, str(path)) as (server, port):
        assert server.stdout is not None
        clients = [threading.Thread(target=lambda: replies.append(post(port, "/encode", body))) for _ in range(2)]
        for client in clients:
            client.start()
        assert server.stdout.readline() == "working\n"  # the requests are accepted
        time.sleep(0.2)
        server.send_signal(signal.SIGTERM)
        for client in clients:
            client.join()
        told, errors = server.communicate(timeout=30)
        assert server.returncode == 0
        assert told.splitlines()[-1] == "answered 2"
        assert errors == ""
    for status, reply, connection in replies:
        assert (status, connection) == (200, "close")  # a client that kept it would send into its end
        assert reply["columns"]["autoencoder0"][0] == pytest.approx(  # type: ignore[index]
            autoencoder.transform(NUMBERS.head(1))[0, 0], rel=1e-12
        )
    with pytest.raises(ConnectionError):
        post(port, "/encode", body)


def test_the_command_serves_refuses_a_huge_body_and_ends_at_ctrl_c(path: Path) -> None:
    command = ("from isthmus.cli import main; main()", "serve", str(path), "--port", "0", "--max-body", "0.5")
    with process(*command) as (server, port):
        status, reply, _ = post(port, "/score", b" " * 3_000_000)
        assert status == 413
        assert "more than 500,000 bytes" in str(reply["error"])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/health")
        assert connection.getresponse().read() == b'{"status":"ok"}'
        connection.close()
        server.send_signal(signal.SIGINT)
        told, errors = server.communicate(timeout=30)
        assert (server.returncode, errors) == (0, "")
        assert told == "ended; requests answered: 1\n"


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that is in use."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_port_in_use_is_one_clear_error(autoencoder: Autoencoder, taken: int) -> None:
    with pytest.raises(
        OSError, match=rf"Port {taken} of 127\.0\.0\.1 is in use; end the program that uses it, or choose"
    ):
        isthmus.serving.serve(autoencoder, port=taken)


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("no.such.host.invalid", "The host 'no.such.host.invalid' is unknown"),
        (
            "192.0.2.1",
            r"Port 8000 of 192\.0\.2\.1 cannot be opened \(Cannot assign requested address\); use an address",
        ),
    ],
)
def test_a_host_that_is_not_this_machine_is_one_clear_error(autoencoder: Autoencoder, host: str, text: str) -> None:
    with pytest.raises(OSError, match=text):
        isthmus.serving.serve(autoencoder, host=host)


def test_a_missing_model_file_leaves_no_port_open(tmp_path: Path, taken: int) -> None:
    with pytest.raises(isthmus.ModelFileError, match=r"missing\.safetensors"):
        isthmus.serving.serve(tmp_path / "missing.safetensors", port=0)


def test_without_the_extra_the_error_names_it(autoencoder: Autoencoder, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name in ("fastapi", "uvicorn") else find(name, *rest),
    )
    text = "Serving needs fastapi, uvicorn, which is not installed; install it with: pip install 'isthmus\\[serve\\]'"
    with pytest.raises(ImportError, match=text):
        isthmus.serving.app(autoencoder)
    with pytest.raises(ImportError, match=text):
        isthmus.serving.serve(autoencoder)
