"""Who may connect to a broker, and what the command refuses before it tries."""

from pathlib import Path

import pytest


def test_tls_and_a_password(locked, certificates, windowed, tmp_path, watches) -> None:
    secret = tmp_path / "credentials"
    secret.write_text("pump:s3cr3t:-)\n")
    options = ["--ca-file", certificates / "ca.pem"]
    for number, (more, env) in enumerate(
        [
            (["--credentials", secret], {}),
            ([], {"EDGEAE_MQTT_USERNAME": "pump", "EDGEAE_MQTT_PASSWORD": "s3cr3t:-)"}),
        ]
    ):
        watch = watches(locked, windowed, tmp_path / f"state{number}", *options, *more, **env)
        watch.says("connected")
        assert b"s3cr3t" not in Path(f"/proc/{watch.process.pid}/cmdline").read_bytes()
        assert watch.stop() == 0
        assert "s3cr3t" not in watch.log.read_text()


@pytest.mark.parametrize(
    ("options", "password", "reason"),
    [
        (["--ca-file", "ca.pem"], "wrong", "the broker refuses the connection: Not authorized"),
        ([], "s3cr3t:-)", "unable to get local issuer certificate"),
    ],
)
def test_what_will_never_work_ends_in_a_line(
    locked, certificates, windowed, tmp_path, watches, options, password, reason
) -> None:
    options = [certificates / word if word.endswith(".pem") else word for word in options]
    env = {"EDGEAE_MQTT_USERNAME": "pump", "EDGEAE_MQTT_PASSWORD": password}
    watch = watches(locked, windowed, tmp_path / "state", *options, **env)
    assert watch.process.wait(20) == 1
    assert watch.log.read_text() == f"Error: localhost:{locked.port}: {reason}\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mqtt", "mqtt://me:pw@host", "--topic", "a"], "do not belong in the address"),
        (["--mqtt", "http://host", "--topic", "a"], "expected mqtt://HOST[:PORT] or mqtts://HOST[:PORT]"),
        (["--mqtt", "mqtt://host:http", "--topic", "a"], "expected mqtt://HOST[:PORT]"),
        (["--mqtt", "mqtt://a..b", "--topic", "a"], "expected mqtt://HOST[:PORT]"),
        (["--mqtt", "mqtt://host", "--topic", "a/#"], "expected one topic, without + or #, found 'a/#'"),
        (["--mqtt", "mqtt://host"], "--mqtt needs --topic, --publish or both"),
        (["--topic", "a"], "--topic needs --mqtt"),
        (["--mqtt", "mqtt://host", "--topic", "a", "--publish", "a"], "are the same"),
        (["--mqtt", "mqtt://host", "--topic", "a", "--follow", "f"], "two sources of readings"),
        (["--mqtt", "mqtt://host", "--topic", "a", "--home-assistant"], "--home-assistant needs --publish"),
        (["--mqtt", "mqtt://host", "--topic", "a", "--ca-file", "f"], "is for a TLS connection"),
        (["--mqtt", "mqtt://host", "--topic", "a", "--credentials", "none"], "none: cannot be read"),
    ],
)
def test_options_that_do_not_fit_are_refused(refused, tiny, options, message) -> None:
    said = refused("watch", tiny, *options)
    assert message in said
    assert "pw" not in said
