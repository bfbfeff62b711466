"""Discovery messages, by which Home Assistant finds a watch and what it publishes."""

import msgspec

from ...names import VERSION


def discovery(client_id: str, name: str, publish: str, expiry: int) -> dict[str, bytes]:
    """Return Home Assistant's discovery message of a device and its entities (2024.11 on), by its topic."""

    def entity(key: str, platform: str, value: str, **more: str) -> dict[str, str | int]:
        own: dict[str, str | int] = {"unique_id": f"{client_id}_{key}", "name": key.capitalize()}
        own["expire_after"] = expiry
        return {"platform": platform, "value_template": f"{{{{ {value} }}}}", **own, **more}

    problem = {"device_class": "problem"}
    aside = {"entity_category": "diagnostic"}
    number = {"state_class": "measurement"}
    config = {
        "device": {"identifiers": [client_id], "name": name, "manufacturer": "edgeae"},
        "origin": {"name": "edgeae", "sw_version": VERSION},
        "state_topic": publish,
        "availability_topic": f"{publish}/status",
        "availability_template": "{{ 'online' if value == 'online' else 'offline' }}",  # it may be stale
        "qos": 1,
        "components": {
            "score": entity("score", "sensor", "value_json.error", **number),
            "threshold": entity("threshold", "sensor", "value_json.threshold", **number, **aside),
            "alarm": entity("alarm", "binary_sensor", "'ON' if value_json.alarm else 'OFF'", **problem),
            "drift": entity(
                "drift", "binary_sensor", "'ON' if value_json.drift else 'OFF'", **problem, **aside
            ),
        },
    }
    return {f"homeassistant/device/{client_id}/config": msgspec.json.encode(config)}
