"""Results by HTTP POST to a real server on this machine that fails in each way that servers fail."""

import logging
import re
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial

import numpy as np
import pytest
from watching import counts, one_by_one, said, wait_for
from webserver import Server, answer, cut, drip, hang, has, slow

from edgeae_runtime.watch import service
from edgeae_runtime.watch.links.http import LONGEST_WAIT, retry_after
from edgeae_runtime.watch.sinks import http
from edgeae_runtime.watch.spool import Spool

# --- when all goes well --------------------------------------------------------------------------


def test_results_arrive_in_order_in_batches_over_one_connection(server, watching, own, rows, caplog) -> None:
    running = watching(server.url)
    running.rows.feed(rows[:1])
    has(server, 1)
    running.rows.feed(rows[1:400])
    has(server, *range(1, 401))
    assert server.sequences == list(range(1, 401))
    errors = [result["error"] for result in server.taken]
    np.testing.assert_array_equal(np.float32(errors), one_by_one(own, rows[:400]))
    assert list(server.taken[0]) == ["sequence", "time", "error", "threshold", "anomaly", "alarm", "drift"]
    assert server.connections == 1
    assert 4 < len(server.posts) < 100 and max(len(results) for _, _, results in server.posts) == 100
    headers = server.posts[0][1]
    assert headers["Content-Type"] == "application/json" and "Authorization" not in headers
    assert re.fullmatch("edgeae-[0-9a-f]{12}", headers["Edgeae-Watch"])
    wait_for(lambda: counts(caplog)["edgeae_spool_results"] == 0, "the last answer")
    found = counts(caplog)
    assert found["edgeae_delivered_total"] == 400
    assert found["edgeae_dropped_total"] == found["edgeae_retried_total"] == 0
    assert said(caplog) == []


def test_a_slow_answer_is_waited_for(server, watching, rows, caplog) -> None:
    server.script.append(slow)
    running = watching(server.url)
    running.rows.feed(rows[:5])
    has(server, *range(1, 6))
    running.rows.feed(rows[5:7])
    has(server, 6, 7)
    assert server.sequences == list(range(1, 8))
    assert counts(caplog)["edgeae_retried_total"] == 0


# --- what passes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fail", "reason"),
    [
        (answer(500, "no disk"), "the answer is 500 Internal Server Error (no disk)"),
        (answer(503, Retry_After="0"), "the answer is 503 Service Unavailable"),
        (answer(408), "the answer is 408 Request Timeout"),
        (answer(425), "the answer is 425 Too Early"),
        (answer(429, Retry_After="soon"), "the answer is 429 Too Many Requests"),
        (cut(b""), "Remote end closed connection without response"),
        (cut(b"HTTP/1.1 2"), "the answer cannot be read (BadStatusLine"),
        (cut(b"HTTP/1.1 200 OK\r\nContent-Le"), "the answer cannot be read (IncompleteRead"),
        (
            cut(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123"),
            "the answer cannot be read (IncompleteRead",
        ),
        (
            cut(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n123"),
            "the answer cannot be read (IncompleteRead",
        ),
        (cut(b"SSH-2.0-OpenSSH_9.2\r\n"), "the answer cannot be read (BadStatusLine"),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else "",
)
def test_what_may_pass_is_tried_again_and_nothing_is_lost_or_overtaken(
    server, watching, rows, caplog, fail, reason
) -> None:
    server.script.extend([answer(200), fail, fail])
    running = watching(server.url)
    running.rows.feed(rows[:1])
    has(server, 1)
    for i in range(1, 30):
        running.rows.feed(rows[i : i + 1])
        time.sleep(0.002)
    has(server, *range(1, 31))
    assert server.sequences == list(range(1, 31))
    sent = [[result["sequence"] for result in results] for _, _, results in server.posts]
    assert sent[1] == sent[2] == sent[3]  # the same batch, before any other
    wait_for(lambda: "results arrive again" in caplog.text, "the all-clear")
    first, second = said(caplog)
    assert first.startswith(f"results do not arrive: http://localhost:{server.port}/scores: {reason}")
    assert first.endswith("; trying again") and second == "results arrive again"
    found = counts(caplog)
    # a connection that was kept open and is closed without a word is tried anew at once
    assert found["edgeae_retried_total"] in (1, 2)
    assert (found["edgeae_delivered_total"], found["edgeae_dropped_total"]) == (30, 0)


@pytest.mark.parametrize("wait", [hang, drip], ids=["hang", "drip"])
def test_an_answer_that_does_not_come_is_not_waited_for(server, watching, rows, caplog, wait) -> None:
    server.script.extend([wait, wait])
    running = watching(server.url, post_timeout=0.3)
    begin = time.monotonic()
    running.rows.feed(rows[:20])
    has(server, *range(1, 21))
    assert 0.6 < time.monotonic() - begin < 5
    assert server.sequences == list(range(1, 21))
    (first, *_) = said(caplog)
    assert "timed out" in first or "no answer within 0.3 s" in first
    assert counts(caplog)["edgeae_retried_total"] == 2


def test_a_server_that_is_not_there_and_restarts_gets_all_in_order(server, watching, rows, caplog) -> None:
    port = server.port
    server.end()
    running = watching(server.url)
    running.rows.feed(rows[:10])
    wait_for(lambda: counts(caplog)["edgeae_retried_total"] > 2, "attempts")
    assert said(caplog)[0].endswith(": Connection refused; trying again")
    found: list[int] = []
    for part in range(1, 4):
        fresh = Server(port)
        running.rows.feed(rows[part * 10 : part * 10 + 5])
        has(fresh, part * 10 + 5)
        fresh.end()
        running.rows.feed(rows[part * 10 + 5 : part * 10 + 10])
        found += fresh.sequences
    last = Server(port)
    has(last, 40)
    last.end()
    found += last.sequences
    assert list(dict.fromkeys(found)) == list(range(1, 41))  # some perhaps twice, the first time in order
    assert said(caplog)[:2] == [said(caplog)[0], "results arrive again"]


def test_a_connection_that_nothing_came_through_for_long_is_not_used_again(
    server, watching, rows, caplog, monkeypatch
) -> None:
    running = watching(server.url)
    for sequence in range(1, 4):
        running.rows.feed(rows[sequence : sequence + 1])
        has(server, sequence)
    assert server.connections == 1
    monkeypatch.setattr(http, "IDLE_SECONDS", 0.1)
    time.sleep(0.2)
    running.rows.feed(rows[:1])
    has(server, 4)
    assert server.connections == 2
    assert counts(caplog)["edgeae_retried_total"] == 0


def test_a_server_that_fails_now_and_then_does_not_fill_the_log(server, watching, rows, caplog) -> None:
    server.script.extend([answer(200), *[answer(500), answer(200)] * 20])
    running = watching(server.url)
    for sequence in range(1, 22):
        running.rows.feed(rows[sequence : sequence + 1])
        has(server, sequence)
    assert len(said(caplog)) == 2
    running.end()
    assert [line.rpartition(" (")[2] for line in said(caplog)[2:]] == ["19 such since the last line)"] * 2


def test_retry_after_is_kept_to(server, watching, rows) -> None:
    server.script.append(answer(429, Retry_After="1"))
    running = watching(server.url)
    running.rows.feed(rows[:1])
    has(server, 1)
    (first, *_), (second, *_) = server.posts
    assert 1 <= second - first < 3


def test_what_a_server_says_of_when_to_come_again() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert retry_after(" 7 ") == 7
    assert 25 < retry_after(soon) <= 30
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert retry_after("9" * 400) == LONGEST_WAIT
    assert [retry_after(text) for text in (None, "", "-5", "1e3", "nan", "soon", "٣")] == [0.0] * 7


def test_the_oldest_go_when_too_many_wait_for_a_server(server, watching, rows, caplog, monkeypatch) -> None:
    port = server.port
    server.end()
    monkeypatch.setattr(service, "Spool", partial(Spool, limit=40_000))
    running = watching(server.url)
    for part in range(20):
        running.rows.feed(rows[part * 50 : part * 50 + 50])
    wait_for(lambda: counts(caplog)["edgeae_samples_total"] == 1000, "the readings")
    wait_for(lambda: counts(caplog)["edgeae_dropped_total"] > 500, "the bound")
    fresh = Server(port)
    has(fresh, 1000)
    fresh.end()
    found = fresh.sequences
    assert found == sorted(set(found))
    # what was handed over before the oldest had to go, and then the newest, without a hole
    newest = next(i for i, sequence in enumerate(found) if found[i:] == list(range(sequence, 1001)))
    assert newest <= http.HttpSink.ahead and found[newest] > 500
    assert any(
        re.match("the spool is full: [0-9]+ results, the oldest, were given up", s) for s in said(caplog)
    )


# --- what does not pass --------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_results_that_are_refused_are_given_up_and_told(server, watching, rows, caplog, status) -> None:
    server.script.extend([answer(200), answer(status, "no\nsuch\x1b field" + "x" * 5000)])
    running = watching(server.url)
    running.rows.feed(rows[:1])
    has(server, 1)
    running.rows.feed(rows[1:6])
    wait_for(lambda: "given up" in caplog.text, "a line")
    running.rows.feed(rows[6:9])
    has(server, 7, 8, 9)
    assert server.sequences == [1, 7, 8, 9]
    (line,) = said(caplog)
    prefix = (
        f"5 results are given up, 5 so far: http://localhost:{server.port}/scores: the answer is {status} "
    )
    assert line.startswith(prefix) and "no such  field" in line and len(line) < 300 and line.isprintable()
    (record,) = (record for record in caplog.records if record.getMessage() == line)
    assert record.levelno == logging.ERROR
    wait_for(lambda: counts(caplog)["edgeae_delivered_total"] == 4, "the deliveries")
    assert counts(caplog)["edgeae_dropped_total"] == 5
    assert counts(caplog)["edgeae_retried_total"] == 0


def test_many_that_are_refused_are_told_in_one_line(server, watching, rows, caplog) -> None:
    server.script.extend([answer(400)] * 20)
    running = watching(server.url)
    for i in range(20):
        running.rows.feed(rows[i : i + 1])
        wait_for(lambda n=i + 1: len(server.posts) == n, "a post")
    running.rows.feed(rows[20:21])
    has(server, 21)
    running.end()
    first, last = said(caplog)
    assert first.startswith("1 results are given up, 1 so far: ")
    assert last.startswith("1 results are given up, 20 so far: ")
    assert last.endswith(" (19 such since the last line)")


@pytest.mark.parametrize(
    ("refuse", "told"),
    [
        (answer(401), "the answer is 401 Unauthorized; see token_file"),
        (answer(403, "no\x1b[2J\n"), "the answer is 403 Forbidden (no [2J); see token_file"),
        (
            answer(307, Location="https://elsewhere.example/x"),
            "the answer is 307 Temporary Redirect (https://elsewhere.example/x), and redirections are not "
            "followed",
        ),
    ],
)
def test_who_is_refused_from_the_start_ends_and_loses_nothing(server, watching, rows, refuse, told) -> None:
    server.script.append(refuse)
    running = watching(server.url)
    running.rows.feed(rows[:7])
    running.thread.join(10)
    assert str(running.error) == f"http://localhost:{server.port}/scores: {told}"
    assert server.sequences == []
    again = watching(server.url)
    again.rows.feed(rows[7:8])
    has(server, 8)
    assert server.sequences == list(range(1, 9))


def test_a_token_that_is_renewed_is_read_again(server, watching, rows, tmp_path, caplog) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    running = watching(server.url, token_file=token)
    running.rows.feed(rows[:1])
    has(server, 1)
    server.script.extend([answer(401)] * 3)
    running.rows.feed(rows[1:5])
    wait_for(lambda: len(server.posts) > 2, "an attempt")
    token.write_text("second")
    has(server, 5)
    assert server.sequences == list(range(1, 6))
    used = [headers["Authorization"] for _, headers, _ in server.posts]
    assert (used[0], used[-1]) == ("Bearer first", "Bearer second")
    assert said(caplog)[0].endswith("the answer is 401 Unauthorized; trying again")
    token.unlink()
    before = counts(caplog)["edgeae_retried_total"]
    running.rows.feed(rows[5:6])
    wait_for(lambda: counts(caplog)["edgeae_retried_total"] > before, "an attempt")
    token.write_text("third")
    has(server, 6)


def test_a_redirection_never_gets_the_token(server, watching, rows, tmp_path) -> None:
    other = Server()
    server.script.extend([answer(200), answer(308, Location=other.url), answer(302, Location=other.url)])
    (tmp_path / "token").write_text("t0ken")
    running = watching(server.url, token_file=tmp_path / "token")
    running.rows.feed(rows[:1])
    has(server, 1)
    running.rows.feed(rows[1:3])
    has(server, 2, 3)
    assert other.connections == 0
    other.end()


def test_a_stop_does_not_wait_for_a_server_that_hangs(server, watching, rows, caplog) -> None:
    server.script.append(hang)
    running = watching(server.url)
    running.rows.feed(rows[:3])
    wait_for(lambda: bool(server.posts), "a post")
    begin = time.monotonic()
    running.end()
    assert time.monotonic() - begin < 4
    assert re.fullmatch(r"3 results are left in \S+; the next start sends them", said(caplog)[-1])
