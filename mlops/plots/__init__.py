"""Figures and HTML pages of evidence. They compute nothing."""
