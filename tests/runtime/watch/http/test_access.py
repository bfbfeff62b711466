"""Whom a watch posts to, and what it shows of itself: TLS, tokens, addresses, options."""

import json
from pathlib import Path

import numpy as np
import pytest
from watching import TOPIC, Client, assert_each_window_once, counts, one_by_one, readings, wait_for
from webserver import Server, answer, cut, drip, hang, has

from edgeae_runtime.errors import DataError
from edgeae_runtime.watch.links.http import Address, bearer_token


def test_tls_is_verified(certificates, watching, rows, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("EDGEAE_POST_TOKEN", "t0ken")
    server = Server(certificates=certificates)
    for number, (url, ca_file, reason) in enumerate(
        [
            (server.url, None, "unable to get local issuer certificate"),
            (server.url.replace("localhost", "127.0.0.1"), certificates / "ca.pem", "IP address mismatch"),
        ]
    ):
        running = watching(url, ca_file=ca_file, state=tmp_path / f"state{number}")
        running.rows.feed(rows[:1])
        running.thread.join(10)
        assert reason in str(running.error)
    assert server.posts == []
    server.script.extend([answer(200), cut(b""), answer(200), cut(b"HTTP/1.1 200 OK\r\n\r\n")])
    running = watching(server.url, ca_file=certificates / "ca.pem")
    running.rows.feed(rows[:1])
    has(server, 1)
    for sequence in range(2, 8):
        running.rows.feed(rows[sequence - 1 : sequence])
        wait_for(lambda n=sequence: server.posts[-1][2][-1]["sequence"] >= n, f"result {sequence}")
    has(server, 7)
    assert {headers["Authorization"] for _, headers, _ in server.posts} == {"Bearer t0ken"}
    running.end()
    server.end()


def test_a_server_that_hangs_in_the_middle_of_tls_is_not_waited_for(
    certificates, watching, rows, caplog
) -> None:
    server = Server(certificates=certificates)
    server.script.extend([hang, drip])
    running = watching(server.url, ca_file=certificates / "ca.pem", post_timeout=0.3)
    running.rows.feed(rows[:2])
    has(server, 1, 2)
    assert counts(caplog)["edgeae_retried_total"] == 2
    running.end()
    server.end()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://example.com", ("example.com", 443, "/", True)),
        ("http://[::1]:8080/a/b?c=d", ("::1", 8080, "/a/b?c=d", False)),
        ("https://example.com:8443/?k=%20", ("example.com", 8443, "/?k=%20", True)),
    ],
)
def test_addresses(url, expected) -> None:
    address = Address.parse(url)
    assert tuple(address) == expected
    assert "=" not in str(address)


@pytest.mark.parametrize(
    "url",
    [
        "example.com",
        "ftp://a/b",
        "https://",
        "https://a:x/",
        "https://a/b c",
        "https://ü/",
        "http://a\r\nX: y/",
    ],
)
def test_what_is_no_address(url) -> None:
    with pytest.raises(DataError, match=r"^post: expected https://HOST\[:PORT\]/PATH"):
        Address.parse(url)


def test_a_token_goes_nowhere_unencrypted(tmp_path, monkeypatch) -> None:
    token = tmp_path / "token"
    token.write_text("t0ken\n")
    for url in ("https://example.com/", "http://localhost:1/", "http://127.0.0.1/", "http://[::1]/"):
        assert bearer_token(token, Address.parse(url)) == "t0ken"
    for url in ("http://example.com/", "http://192.168.0.1/", "http://127.0.0.1.example.com/"):
        with pytest.raises(DataError, match="would get the token unencrypted"):
            bearer_token(token, Address.parse(url))
        assert bearer_token(None, Address.parse(url)) is None
    for content in ("", "two words", "two\nlines", "t0ken\r\nX-Evil: 1", "ü"):
        token.write_text(content)
        with pytest.raises(DataError, match=r"token: expected one line with a token, without spaces$"):
            bearer_token(token, Address.parse("https://example.com/"))


# --- the command ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--post", "https://me:pw@host/"], "--post: user and password do not belong in the address"),
        (
            ["--post", "mqtt://host"],
            "--post: expected https://HOST[:PORT]/PATH or http://…, found 'mqtt://host'",
        ),
        (["--post", "http://host/?k=pw", "--token-file", "none"], "none: cannot be read"),
        (["--token-file", "f"], "--token-file needs --post"),
        (["--post", "http://host/", "--ca-file", "f"], "--ca-file: is for a TLS connection"),
        (["--post", "https://host/", "--ca-file", "none"], "none: no certificates can be read"),
        (
            ["--post", "https://host/", "--mqtt", "mqtt://host", "--publish", "a"],
            "--publish and --post are two places for results; give one",
        ),
        (["--post", "https://host/", "--topic", "a"], "--topic needs --mqtt"),
    ],
)
def test_options_that_do_not_fit_are_refused(refused, tiny, monkeypatch, tmp_path, options, message) -> None:
    monkeypatch.setenv(
        "XDG_STATE_HOME", "/nonexistent" if "needs" in message else str(tmp_path.parent / "home")
    )
    line = refused("watch", tiny, *options)
    assert message in line
    assert "pw" not in line


def test_the_command_posts_and_goes_on_where_it_was_killed(server, start, tiny, own, rows, tmp_path) -> None:
    source = tmp_path / "pump.jsonl"
    source.touch()
    (tmp_path / "token").write_text("t0ken\n")
    words = (tiny, "--follow", source, "--state", tmp_path / "state", "--post", server.url)
    server.script.append(answer(200))
    for part in range(3):
        server.script.extend([hang] * (part > 0))
        posts = len(server.posts)
        running = start(*words, "--token-file", tmp_path / "token")
        with source.open("a") as file:
            file.writelines(f"{json.dumps(row.tolist())}\n" for row in rows[part * 30 : part * 30 + 30])
        wait_for(lambda n=posts: len(server.posts) > n, "a post")
        assert b"t0ken" not in Path(f"/proc/{running.process.pid}/cmdline").read_bytes()
        running.process.kill()
        running.process.wait()
    running = start(*words, EDGEAE_POST_TOKEN="t0ken")
    has(server, *range(1, 91))
    assert running.end() == 0
    unique = {result["sequence"]: result["error"] for result in server.taken}
    assert list(unique) == list(range(1, 91))
    np.testing.assert_array_equal(np.float32(list(unique.values())), one_by_one(own, rows[:90]))
    assert len({headers["Edgeae-Watch"] for _, headers, _ in server.posts}) == 1
    assert running.out.read_bytes() == b"" and "t0ken" not in running.err.read_text()


def test_readings_may_come_by_mqtt_and_results_go_by_http(server, broker, start, windowed, tmp_path) -> None:
    words = ("--mqtt", broker.url, "--topic", TOPIC, "--post", server.url, "--state", tmp_path / "state")
    running = start(windowed, *words)
    running.says("connected; the broker drops messages above 1,000,000 bytes, see --max-reading")
    source = Client(broker, "source")
    rows = readings(30)
    for row in rows:
        source.publish(row)
    has(server, *range(1, 29))
    source.close()
    assert running.end() == 0
    assert_each_window_once(windowed, rows, server.taken)
    assert running.err.read_text().count("\n") == 1
