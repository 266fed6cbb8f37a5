"""What can go wrong in a load test, as one tree. Messages name the option or file, what was found and expected.

LoadTestError
├── SettingsError   an option, an SLO or a payload folder makes no sense
├── ReportError     a report of an earlier run cannot be read, or the new one not be written
└── FleetError      workers did not come, or were lost
"""


class LoadTestError(Exception):
    """Anything that the load tests report in one line."""


class SettingsError(LoadTestError):
    """An option, an SLO or a payload folder makes no sense."""


class ReportError(LoadTestError):
    """A report of an earlier run cannot be read, or the new one not be written."""


class FleetError(LoadTestError):
    """Workers did not come, or were lost."""
