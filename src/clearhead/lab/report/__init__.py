"""The report of the lab: an offline site, and the same pages as Markdown."""

from clearhead.lab.report.writing import write_markdown, write_site

__all__ = ["write_markdown", "write_site"]
