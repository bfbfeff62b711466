"""Live series: verdicts, alarms and drift."""
