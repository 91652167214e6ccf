"""What runs inside the service: the engine of limits, metrics, logs, and the call path of dependencies."""
