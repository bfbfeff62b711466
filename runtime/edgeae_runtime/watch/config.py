"""The settings of a watch; what they may be, their help and their defaults stand here and nowhere else."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import msgspec
from msgspec import Meta

from ..engines.registry import EngineName
from ..errors import Argument
from ..names import PrecisionName
from ..settings import SettingsError, check

if TYPE_CHECKING:
    from ..streams.alarm import Alarm
    from ..streams.drift import Drift

Seconds: TypeAlias = Annotated[float, Meta(ge=0)]
SomeSeconds: TypeAlias = Annotated[float, Meta(gt=0)]
Count: TypeAlias = Annotated[int, Meta(ge=0)]
Some: TypeAlias = Annotated[int, Meta(ge=1)]

_SECONDS = {"metavar": "SECONDS"}
_MOST_TOPIC = 10_000


class WatchConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a watch: where readings come from, where results go, and how they are judged.

    A field has all there is to say of a setting: ``edgeae watch`` takes its option from it, and `check_watch`
    holds it to its range.
    """

    follow: Annotated[
        Path | None,
        Meta(description="Read this file, and what others add to it.", extra={"metavar": "FILE"}),
    ] = None
    mqtt: Annotated[
        str | None,
        Meta(description="Broker: mqtt://HOST[:PORT], or mqtts:// for TLS.", extra={"metavar": "URL"}),
    ] = None
    topic: Annotated[str | None, Meta(description="Take readings from this MQTT topic.")] = None
    publish: Annotated[
        str | None,
        Meta(
            description="Send results to this MQTT topic, not to standard output.", extra={"metavar": "TOPIC"}
        ),
    ] = None
    post: Annotated[
        str | None,
        Meta(
            description="Send results by HTTP POST, not to standard output: https://HOST[:PORT]/PATH, or "
            "http://.",
            extra={"metavar": "URL"},
        ),
    ] = None
    post_timeout: Annotated[
        SomeSeconds,
        Meta(description="A server that has not answered by then is asked again.", extra=_SECONDS),
    ] = 10.0
    token_file: Annotated[
        Path | None,
        Meta(
            description="File with the bearer token for --post.",
            extra={"metavar": "FILE", "derived": "EDGEAE_POST_TOKEN, if it is set"},
        ),
    ] = None
    ca_file: Annotated[
        Path | None,
        Meta(description="Certificates (PEM) to trust, instead of the system's.", extra={"metavar": "FILE"}),
    ] = None
    credentials: Annotated[
        Path | None,
        Meta(
            description="File with a line user:password for the broker.",
            extra={"metavar": "FILE", "derived": "EDGEAE_MQTT_USERNAME and _PASSWORD"},
        ),
    ] = None
    home_assistant: Annotated[
        bool, Meta(description="Let Home Assistant find score, threshold and alarm.")
    ] = False
    state: Annotated[
        Path | None,
        Meta(
            description="Folder for what must outlive a restart.",
            extra={
                "metavar": "FOLDER",
                "derived": "below $XDG_STATE_HOME/edgeae; none from standard input to standard output",
            },
        ),
    ] = None
    threshold: Annotated[
        Seconds | None, Meta(description="Instead of the bundle's, or of the one beside it.")
    ] = None
    alarm_needed: Annotated[Some, Meta(description="Windows above for an alarm…")] = 1
    alarm_among: Annotated[
        Some | None,
        Meta(description="…among so many last ones.", extra={"derived": "as --alarm-needed"}),
    ] = None
    alarm_release: Annotated[
        float, Meta(gt=0, le=1, description="The alarm ends below this part of the threshold.")
    ] = 1.0
    alarm_refractory: Annotated[
        Seconds, Meta(description="After an alarm, none for so long.", extra=_SECONDS)
    ] = 0.0
    alarm_warm_up: Annotated[Count, Meta(description="First windows that raise no alarm.")] = 0
    drift_memory: Annotated[Count, Meta(description="Windows over which drift is judged; 0: never.")] = 1000
    hold: Annotated[
        Count, Meta(description="Missing values in a row for which the last known one stands.")
    ] = 0
    stale_after: Annotated[
        SomeSeconds | None,
        Meta(
            description="Say so when no full reading came for so long.",
            extra={"derived": "ten usual steps", **_SECONDS},
        ),
    ] = None
    max_reading: Annotated[
        Annotated[int, Meta(ge=1000)] | None,
        Meta(
            description="Leave out a longer line or MQTT message.",
            extra={"metavar": "BYTES", "derived": "1,000,000, or 32 a value if that is more"},
        ),
    ] = None
    embedding: Annotated[bool, Meta(description="Add the embedding to each result.")] = False
    metrics_port: Annotated[
        Annotated[int, Meta(ge=0, le=65535)] | None,
        Meta(description="Serve Prometheus metrics on this port of 127.0.0.1.", extra={"metavar": "PORT"}),
    ] = None
    swap_seconds: Annotated[
        Some,
        Meta(description="A new bundle that is not verified by then is refused.", extra=_SECONDS),
    ] = 60
    swap_memory: Annotated[
        Some,
        Meta(description="A new bundle that takes more to be verified is refused.", extra={"metavar": "MB"}),
    ] = 256
    engine: Annotated[EngineName, Meta(description="Inference engine.")] = "auto"
    precision: Annotated[PrecisionName, Meta(description="Which of the bundle's artifacts to run.")] = "auto"

    def alarm(self) -> "Alarm":
        """Return when an alarm starts and ends.

        Raises:
            DataError: its settings do not go together.
        """
        from ..streams.alarm import Alarm

        return Alarm(
            needed=self.alarm_needed,
            among=self.alarm_among or self.alarm_needed,
            release=self.alarm_release,
            refractory=self.alarm_refractory,
            warm_up=self.alarm_warm_up,
        )

    def drift(self) -> "Drift | None":
        """Return how drift is judged, or None for never."""
        from ..streams.drift import Drift

        return Drift(memory=self.drift_memory) if self.drift_memory else None


def check_watch(config: WatchConfig) -> None:
    """Refuse settings out of their range, or that do not go together, before anything is opened.

    Raises:
        SettingsError: which, and what to give instead.
    """
    check(config)
    topic, publish = config.topic, config.publish
    if config.follow is not None and topic is not None:
        raise SettingsError(
            Argument("follow"), " and ", Argument("topic"), " are two sources of readings; give one"
        )
    if publish is not None and config.post is not None:
        raise SettingsError(
            Argument("publish"), " and ", Argument("post"), " are two places for results; give one"
        )
    if config.home_assistant and publish is None:
        raise SettingsError(
            Argument("home_assistant"), " needs ", Argument("publish"), ", the topic where the results are"
        )
    _check_broker(config)
    if config.token_file is not None and config.post is None:
        raise SettingsError(Argument("token_file"), " needs ", Argument("post"), ", the address it is for")
    urls = [url for url in (config.mqtt, config.post) if url is not None]
    if config.ca_file is not None and not any(url.lower().startswith(("mqtts:", "https:")) for url in urls):
        raise SettingsError(
            Argument("ca_file"),
            ": is for a TLS connection; name the broker as mqtts://…, or post to https://…",
        )


def _check_broker(config: WatchConfig) -> None:
    topic, publish = config.topic, config.publish
    if config.mqtt is None:
        needing = {"topic": topic, "publish": publish, "credentials": config.credentials}
        if config.post is None:
            needing["ca_file"] = config.ca_file
        for name, given in needing.items():
            if given is not None:
                raise SettingsError(Argument(name), " needs ", Argument("mqtt"), ", the broker")
        return
    if topic is None and publish is None:
        raise SettingsError(
            Argument("mqtt"), " needs ", Argument("topic"), ", ", Argument("publish"), " or both"
        )
    for name, value in (("topic", topic), ("publish", publish)):
        if value is not None and not (
            value and {"+", "#", "\0"}.isdisjoint(value) and len(value) < _MOST_TOPIC
        ):
            raise SettingsError(Argument(name), f": expected one topic, without + or #, found {value!r}")
    if topic == publish:
        raise SettingsError(
            Argument("topic"),
            " and ",
            Argument("publish"),
            " are the same; the results would be taken for readings",
        )
