"""Locust users whose requests are Locust's events: who is told by the driver what to ask, and when."""

from typing import Any, ClassVar

from locust import User, task

from loadtests.calls import Answer, Call
from loadtests.driver import Driver


class TellingUser(User):
    """A user that has Locust count its requests."""

    abstract = True

    def tell(self, protocol: str, call: Call, latency_s: float, answer: Answer, error: Exception | None) -> None:
        """Makes a request a Locust event."""
        context: dict[str, Any] = {"error_class": type(error).__name__ if error else None}
        self.environment.events.request.fire(
            request_type=protocol,
            name=call.name,
            response_time=1000 * latency_s,
            response_length=answer.received_bytes,
            exception=error,
            context=context,
        )


class DrivenUser(TellingUser):
    """Somebody with slices to analyze. What is asked, and when, is the driver's to say."""

    driver: ClassVar[Driver]
    """This process's; set before the first user starts."""

    @task
    def turn(self) -> None:
        """Asks once, or sends all that is scheduled here."""
        self.driver.turn(self)
