"""What runs, compared with what the spec says: a service, its Prometheus, its Alertmanager."""

from mahavishnu.live import alertmanager, prometheus, service

__all__ = ["alertmanager", "prometheus", "service"]
