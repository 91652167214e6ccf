"""Spans, for processes that trace: the same steps, told to OpenTelemetry as they happen."""
