"""Measures, systems to compare with, and tables."""
