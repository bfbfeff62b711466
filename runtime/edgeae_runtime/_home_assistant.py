"""How a watch introduces itself to Home Assistant."""

import msgspec


def discovery(client_id: str, name: str, publish: str, status_topic: str, version: str) -> tuple[str, bytes]:
    """Return topic and payload of Home Assistant's discovery of a device with its entities.

    One message for the whole device, as Home Assistant takes it from 2024.11 on.
    """
    identifier = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in client_id)

    def entity(key: str, platform: str, **more: object) -> dict[str, object]:
        return {"platform": platform, "unique_id": f"{identifier}_{key}", **more}

    config = {
        "device": {"identifiers": [identifier], "name": name, "manufacturer": "edgeae"},
        "origin": {"name": "edgeae", "sw_version": version},
        "state_topic": publish,
        "availability_topic": status_topic,
        "qos": 1,
        "components": {
            "score": entity(
                "score",
                "sensor",
                name="Score",
                state_class="measurement",
                value_template="{{ value_json.error }}",
            ),
            "threshold": entity(
                "threshold",
                "sensor",
                name="Threshold",
                state_class="measurement",
                entity_category="diagnostic",
                value_template="{{ value_json.threshold }}",
            ),
            "alarm": entity(
                "alarm",
                "binary_sensor",
                name="Alarm",
                device_class="problem",
                value_template="{{ 'ON' if value_json.alarm else 'OFF' }}",
            ),
            "drift": entity(
                "drift",
                "binary_sensor",
                name="Drift",
                device_class="problem",
                entity_category="diagnostic",
                value_template="{{ 'ON' if value_json.drift else 'OFF' }}",
            ),
        },
    }
    return f"homeassistant/device/{identifier}/config", msgspec.json.encode(config)
