"""What sources and sinks reach others by: a broker's connection, TLS, secrets."""
