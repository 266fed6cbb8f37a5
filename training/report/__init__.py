"""The evaluation report: figures as JSON, and a page that a radiologist and an engineer can both read."""

from training.report.figures import summarize
from training.report.page import write_report

__all__ = ["summarize", "write_report"]
